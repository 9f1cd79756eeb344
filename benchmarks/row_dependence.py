"""Find out which operations make a row of a bf16 product depend on the other rows in the call.

    python -m benchmarks.row_dependence [--threads 1]

A passage's score must not depend on the batch. That holds to the last bit only if each operation gives a row
the same result alone as among others. This computes rows in batches of several sizes and compares them bit by
bit with the same rows computed one at a time. Prints a table and writes results/row_dependence.json; results
differ between processors, so run it on each kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.results_file import make_table, print_table, write_result
from gliclass_rerank.data.progress import progress
from gliclass_rerank.modeling.linear import PrepackedLinear, can_prepack

BATCH_SIZES = (1, 2, 7, 32, 100)
SHAPES = ((384, 384), (384, 1536), (1536, 384), (768, 2304))  # input and output features
SEQUENCES = ((8, 12, 32), (32, 12, 32), (180, 12, 32), (180, 12, 64))  # tokens, heads, features of a head
# A packed batch gives a matrix product as many rows as the batch has tokens.
ROWS_PER_ITEM = (1, 8, 180)

Operation = Callable[[Tensor], Tensor]  # (items, ...) to (items, ...)


def linear_operations(inputs: int, outputs: int, dtype: torch.dtype) -> dict[str, Operation]:
    """Products with one weight matrix, on (items, rows, inputs)."""
    linear = nn.Linear(inputs, outputs).to(dtype).requires_grad_(False)
    transposed = linear.weight.t().contiguous()
    operations: dict[str, Operation] = {
        "linear": lambda x: linear(x.flatten(0, 1)).view(*x.shape[:2], -1),
        "matmul": lambda x: (x.flatten(0, 1) @ transposed).view(*x.shape[:2], -1),
        "bmm": lambda x: torch.bmm(x, transposed.expand(len(x), -1, -1)),
    }
    if can_prepack(dtype):
        prepacked = PrepackedLinear(linear)
        operations["linear, prepacked"] = lambda x: prepacked(x.flatten(0, 1)).view(*x.shape[:2], -1)
    return operations


def attend(x: Tensor) -> Tensor:
    """Self-attention over (items, heads, tokens, features)."""
    return nn.functional.scaled_dot_product_attention(x, x.flip(-1), x.roll(1, -1))


def largest_change(operation: Operation, x: Tensor) -> dict[int, float]:
    """The largest difference between an item alone and the same item in a batch, by batch size.

    Args:
        operation: What to run.
        x: As many items as the largest batch has.
    """
    alone = torch.cat([operation(item[None]) for item in x])
    return {size: float((operation(x[:size].contiguous()) - alone[:size]).abs().max().float()) for size in BATCH_SIZES}


@torch.inference_mode()
def measure(dtype: torch.dtype) -> list[dict[str, Any]]:
    """The rows of one dtype: each operation on each shape."""
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []

    def add(name: str, shape: str, operation: Operation, x: Tensor) -> None:
        changes = largest_change(operation, x)
        name_of_dtype = str(dtype).removeprefix("torch.")
        by_size = {str(size): change for size, change in changes.items()}
        rows.append({"dtype": name_of_dtype, "operation": name, "shape": shape, "largest change": by_size})

    for inputs, outputs in progress(SHAPES, f"{dtype}, products"):
        operations = linear_operations(inputs, outputs, dtype)
        for count in ROWS_PER_ITEM:
            x = torch.randn(max(BATCH_SIZES), count, inputs).to(dtype)
            for name, operation in operations.items():
                add(name, f"{count} x {inputs} -> {outputs}", operation, x)
    for tokens, heads, features in progress(SEQUENCES, f"{dtype}, attention"):
        x = torch.randn(max(BATCH_SIZES), heads, tokens, features).to(dtype)
        add("attention (sdpa)", f"{tokens} tokens, {heads} heads of {features}", attend, x)
    x = torch.randn(max(BATCH_SIZES), 180, 384).to(dtype)
    add("layer norm", "180 x 384", lambda y: nn.functional.layer_norm(y, y.shape[-1:]), x)
    add("gelu", "180 x 384", nn.functional.gelu, x)
    add("softmax", "180 x 384", lambda y: y.softmax(-1), x)
    return rows


def main() -> None:
    """Measure, print a table and write results/row_dependence.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [row for dtype in (torch.bfloat16, torch.float32) for row in measure(dtype)]
    header = ["dtype", "operation", "one item", *(f"batch {size}" for size in BATCH_SIZES)]
    cells = [
        [
            row["dtype"],
            row["operation"],
            row["shape"],
            *(f"{change:.1e}" if change else "0" for change in row["largest change"].values()),
        ]
        for row in rows
    ]
    table = make_table(header, cells)
    print_table(table, "largest change of an item's result in a batch")
    capability = torch.backends.cpu.get_cpu_capability()
    result = {"threads used": options.threads, "cpu capability": capability, "rows": rows, "table": table}
    write_result("row_dependence", result)


if __name__ == "__main__":
    main()
