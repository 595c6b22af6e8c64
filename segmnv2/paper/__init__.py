"""The paper's tables and figures: what can be computed is, beside what the paper printed."""
