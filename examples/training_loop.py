"""Train a model in plain PyTorch, without Lightning: python examples/training_loop.py --steps 300."""

import argparse

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

import segmnv2
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes


class Pairs(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Pairs of an image, uint8 RGB (3, H, W), and its mask, int64 (H, W) with 255 for ignored pixels."""

    def __init__(self, length: int) -> None:
        """Use generated images; put your own files here."""
        self.samples = Shapes(length, size=(97, 97), seed=1)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a pair."""
        sample = self.samples[index]
        return torch.from_numpy(sample.image).permute(2, 0, 1), torch.from_numpy(sample.mask).long()


def main(steps: int, out: str) -> None:
    """Train, save, and measure the mIOU on other images."""
    model = segmnv2.create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.5, output_stride=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=4e-5)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)
    for step, (images, masks) in enumerate(DataLoader(Pairs(8 * steps), batch_size=8), start=1):
        loss = F.cross_entropy(model(images), masks, ignore_index=255)  # logits (B, classes, H, W) at the image's size
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 10 == 0 or step == steps:
            print(f"step {step}: loss {loss.item():.3f}")
    segmnv2.save_model(out, model)
    print(segmnv2.evaluate(model, Shapes(50, (97, 97), seed=2), size=97).to_markdown())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", default="shapes.safetensors")
    main(**vars(parser.parse_args()))
