"""Write a tiny language model with random weights, so that a real Ollama has something to run without any download.

    python tests/backends/tiny_model.py tiny.gguf

It speaks nonsense of small letters, digits and a little punctuation, always the same for the same seed and never ending
of itself, so that `num_predict` alone decides how many tokens come out.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

CONTEXT = 4096  # what Ollama asks for by default
LAYERS = 2
WIDTH = 64
HEADS = 4
KV_HEADS = 2
HIDDEN = 128
SEED = 20261121

UNKNOWN, BEGIN, END = 0, 1, 2
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LETTERS = list("\N{LOWER ONE EIGHTH BLOCK}abcdefghijklmnopqrstuvwxyz0123456789.,?")
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def write(path: Path) -> None:
    """Write the model: llama architecture, 299 tokens of a SentencePiece vocabulary, about half a megabyte."""
    # by name, since both are needed here only and the type checkers must pass where they are not installed
    gguf: Any = importlib.import_module("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(SPECIAL + BYTES + LETTERS))
    add_vocabulary(writer, gguf.TokenType)
    for name, weights in tensors().items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: Any, kinds: Any) -> None:
    """Describe the tokens: three special ones, one for each byte, and the characters the model speaks in."""
    special = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(SPECIAL + BYTES + LETTERS)
    writer.add_token_scores([0.0] * len(SPECIAL + BYTES) + [-float(rank) for rank in range(len(LETTERS))])
    writer.add_token_types(special + [kinds.BYTE] * len(BYTES) + [kinds.NORMAL] * len(LETTERS))
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def tensors() -> dict[str, Any]:
    """Draw the weights, each matrix as (output, input)."""
    numpy: Any = importlib.import_module("numpy")
    random = numpy.random.default_rng(SEED)

    def draw(rows: int, columns: int, spread: float = 0.05) -> Any:
        return (random.standard_normal((rows, columns)) * spread).astype(numpy.float32)

    silent, spoken = len(SPECIAL + BYTES), len(LETTERS)
    key_width = WIDTH // HEADS * KV_HEADS
    ones = numpy.ones(WIDTH, dtype=numpy.float32)
    embedding = draw(silent + spoken, WIDTH, 1.0)
    output = draw(silent + spoken, WIDTH, 0.3)
    # The first dimension is positive whatever was read, so a negative weight on it keeps a token from ever being chosen:
    # no end of text, which would make the counts a matter of luck, and no lone bytes, which are not valid UTF-8.
    embedding[:, 0] = 4.0
    output[:silent, 0] = -20.0
    drawn = {"token_embd.weight": embedding, "output.weight": output, "output_norm.weight": ones}
    for layer in range(LAYERS):
        drawn |= {
            f"blk.{layer}.attn_norm.weight": ones,
            f"blk.{layer}.attn_q.weight": draw(WIDTH, WIDTH),
            f"blk.{layer}.attn_k.weight": draw(key_width, WIDTH),
            f"blk.{layer}.attn_v.weight": draw(key_width, WIDTH),
            f"blk.{layer}.attn_output.weight": draw(WIDTH, WIDTH),
            f"blk.{layer}.ffn_norm.weight": ones,
            f"blk.{layer}.ffn_gate.weight": draw(HIDDEN, WIDTH),
            f"blk.{layer}.ffn_up.weight": draw(HIDDEN, WIDTH),
            f"blk.{layer}.ffn_down.weight": draw(WIDTH, HIDDEN),
        }
    return drawn


if __name__ == "__main__":
    write(Path(sys.argv[1]))
