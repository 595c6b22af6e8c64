"""Heads that turn a backbone's last feature map into class logits."""
