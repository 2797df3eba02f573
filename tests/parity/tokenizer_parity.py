#!/usr/bin/env python3
"""Token-for-token parity of `terroir tokenizer` with Hugging Face's `tokenizers`.

    python3 tests/parity/tokenizer_parity.py PATH/TO/terroir

For each pre-tokenizer: trains both on the same texts and compares vocabulary and merges; compares the ids of many
texts with our file read by both, then with Hugging Face's file read by both; decodes back. Needs `tokenizers`.
"""
import functools
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>"]
MAX_MERGED_BYTES = 1024  # kMaxMergedBytes of data/tokenizer/train.h
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPLITS = {"gpt-2": None, "llama-3": LLAMA3, "qwen2": LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")}

HOSTILE = [
    "", " ", "\n", "  ", " \n", "\n ", "\r\n\r\n", "a\r\nb", "\t\tx\ty", "   x", "x   ", "x \n \n y", " \u00a0 x", "\u3000\u3000日本",
    "don't DON'T we'll WE'LL I'm I'M they've THEY'VE you're he'd it's 'tis o'clock 'ſ 'ſt 'S's ''s '' 'x ' 's",
    "e\u0301\u0301\u0301 a\u0323\u0307 \u0301lone q\u0307\u0323", "각 각 \u1112\u1161\u11ab 한", "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇰🇷🇻🇳",
    "שלום\u200f abc \u202eevil\u202c \u061c\u200e", "السَّلَامُ عَلَيْكُمْ ١٢٣٤٥ ۱۲۳", "สวัสดีครับ ภาษาไทยไม่มีช่องว่าง ๑๒๓๔", "नमस्ते दुनिया १२३४ क्ष्म्य",
    "Mabuhay! Kumusta ka? ₱1,234.56", "Tiếng Việt có dấu: ặ ẵ ử ỹ", "1234567890 12 3 ½ Ⅷ ² ４５６", "a1b2c3 1a 2b", "..., !!! ?\n\n!!\n", "x=y+z; // ok\n\tif(a){b();}\n",
    "\x00 \x00\x00a\x01\x7f\x80\x9f", "\u0085x\u0085\u0085 y\u2028z\u2029", "\u180ea \u180e b", "\u200b\u200bzero \ufeffbom \u2060",
    "\U0001e030\U00010d40\U0002ebf0 \U000e0001\U0010ffff\ufdd0\uffff\uffff", "\u1c89\ua7cb\U00010d4a", "ⓐ ㋀ ㍿ ﷺ ﬁ ǅ ʼn", "a" * 3000, "ab" * 2000, " " * 3000 + "x",
    "\n" * 2000 + " x", "0" * 2000, "!" * 2000, "'s" * 500, "a\u0301" * 1000, "한" * 1500, "<|begin_of_text|>x<|end_of_text|>", "<|<|begin_of_text|",
]


def random_texts(seed, count, length):
    """Characters from everywhere, and soups of the pieces the pre-tokenizers care about."""
    rng = random.Random(seed)
    pieces = list(" \n\r\t'stmdrevlaSTL01.!-\u00a0\u3000é한ก์ب\u0301٣😀\x00ſ") + ["'ll", "'ve", "\r\n", "  ", "'re"]
    for _ in range(count):
        kind = rng.randrange(3)
        if kind == 0:
            yield "".join(rng.choices(pieces, k=length))
        elif kind == 1:
            points = (rng.randrange(0x110000) for _ in range(length))
            yield "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)
        else:
            yield "".join(chr(rng.choice([32, rng.randrange(33, 0x3000), rng.randrange(0x80)])) for _ in range(length))


def all_code_points():
    return "".join(f"a{chr(p)}1{chr(p)}.{chr(p)} " for p in range(0x110000) if not 0xD800 <= p < 0xE000)


def samples():
    return {path.name: path.read_text("utf-8") for path in sorted((ROOT / "data/samples").glob("*.txt"))}


def training_texts():
    """Corpora that reach different corners of the trainer."""
    rng = random.Random(7)
    texts = {"samples": "\n".join(samples().values()), "hostile": "\n".join(HOSTILE)}
    # Few letters: the same token comes about in several ways, which is where trainers differ.
    for letters in ("ab", "abc", "aab "):
        for seed in range(2):
            rng.seed(f"{letters}{seed}")
            texts[f"soup {letters!r} {seed}"] = " ".join("".join(rng.choices(letters, k=rng.randrange(1, 40))) for _ in range(400))
    texts["random"] = "".join(random_texts(3, 60, 400))
    return texts


class Terroir:
    def __init__(self, program, folder):
        self.program, self.folder = program, pathlib.Path(folder)

    def run(self, *arguments, stdin=b""):
        done = subprocess.run([self.program, "tokenizer", *map(str, arguments)], input=stdin, capture_output=True)
        if done.returncode != 0:
            raise SystemExit(f"terroir tokenizer {' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr.decode()}")
        return done.stdout

    def train(self, text, name, *arguments):
        source, out = self.folder / "train.txt", self.folder / name
        source.write_bytes(text.encode())
        self.run("train", "--out", out, *arguments, source)
        return out

    def encode(self, tokenizer, text, *arguments):
        return json.loads(self.run("encode", "--tokenizer", tokenizer, *arguments, stdin=text.encode()))

    def decode(self, tokenizer, ids):
        return self.run("decode", "--tokenizer", tokenizer, stdin=json.dumps(ids).encode()).decode("utf-8", "surrogateescape")


def hf_untrained(pretokenizer):
    tokenizer = Tokenizer(models.BPE())
    regex = SPLITS[pretokenizer]
    if regex is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def hf_train(text, pretokenizer, vocab_size, min_frequency):
    tokenizer = hf_untrained(pretokenizer)
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=SPECIAL,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                  max_token_length=MAX_MERGED_BYTES + 1)  # theirs is the first length refused
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def merge_pairs(model):
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]


def check(condition, message):
    if not condition:
        raise SystemExit(f"FAILED: {message}")


def check_training(terroir):
    count = 0
    for name, text in training_texts().items():
        for pretokenizer in SPLITS:
            for vocab_size, min_frequency in ((1000, 2), (6000, 0)):
                ours = json.loads(terroir.train(text, "ours.json", "--pretokenizer", pretokenizer, "--vocab-size", vocab_size,
                                                "--min-frequency", min_frequency).read_text())["model"]
                theirs = json.loads(hf_train(text, pretokenizer, vocab_size, min_frequency).to_str())["model"]
                where = f"training on {name}, {pretokenizer}, vocabulary {vocab_size}, min frequency {min_frequency}"
                pairs = list(zip(merge_pairs(ours), merge_pairs(theirs)))
                different = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
                check(different is None, f"{where}: merge {different} is {pairs[different or 0]}")
                check(len(ours["merges"]) == len(theirs["merges"]), f"{where}: {len(ours['merges'])} merges, theirs {len(theirs['merges'])}")
                check(ours["vocab"] == theirs["vocab"], f"{where}: vocabularies differ")
                count += 1
    print(f"training: {count} vocabularies and merge lists equal", flush=True)


def hf_ids(hf, text, special):
    hf.encode_special_tokens = not special
    return hf.encode(text, add_special_tokens=False).ids


def check_ids(ours, theirs, hf, where):
    if ours != theirs:
        i = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
        check(False, f"{where}: ids differ from number {i}: {ours[i:i + 8]} and {theirs[i:i + 8]} after {hf.decode(theirs[max(0, i - 8):i])!r}")


def compare_ids(terroir, path, hf, text, where, special=False):
    theirs = hf_ids(hf, text, special)
    check_ids(terroir.encode(path, text, *(["--special"] if special else [])), theirs, hf, where)
    return theirs


@functools.lru_cache(maxsize=None)
def normalizes_differently(character):
    """Hugging Face's NFC knows the combining classes of Unicode 9 only; ours those of the installed utf8proc."""
    probe = "\u0301" + character + "\u0323" + character
    return (unicodedata.category(character) == "Cn"
            or (unicodedata.combining(character) != 0
                and normalizers.NFC().normalize_str(probe) != unicodedata.normalize("NFC", probe)))


def short_texts():
    """Texts of one line: where they begin and end matters."""
    texts = [*HOSTILE, *random_texts(11, 30, 3000), *random_texts(12, 300, 12)]
    return sorted({line for text in texts for line in text.split("\n")})


def long_texts():
    yield from ((f"hostile {text!r:.30}", text) for text in HOSTILE if "\n" in text)
    yield from ((f"random {i}", text) for i, text in enumerate(random_texts(13, 6, 3000)))
    yield "everything", "".join([*samples().values(), *HOSTILE, *random_texts(14, 10, 3000)])


def check_encoding(terroir, path, label):
    hf = Tokenizer.from_file(str(path))

    def known(text):
        return text if hf.normalizer is None else "".join(c for c in text if not normalizes_differently(c))

    count = 0
    for special in (False, True):
        where = f"{label}, special tokens {'recognized' if special else 'as text'}"
        for name, text in long_texts():
            count += len(compare_ids(terroir, path, hf, known(text), f"{where}, {name}", special))
        lines = [known(text) for text in short_texts()]
        encoded = terroir.run("encode", "--tokenizer", path, "--lines", *(["--special"] if special else []), stdin="\n".join(lines).encode())
        ours = [json.loads(array) for array in encoded.split(b"\n")[:-1]]
        check(len(ours) == len(lines), f"{where}: {len(ours)} arrays for {len(lines)} lines")
        for ids, text in zip(ours, lines):
            check_ids(ids, hf_ids(hf, text, special), hf, f"{where}, {text!r}")
            count += len(ids)
        if hf.normalizer is None:
            text = dict(long_texts())["everything"]
            check(terroir.decode(path, hf_ids(hf, text, special)) == text, f"{where}: decoding is not the inverse")
    print(f"{label}: {count} ids equal", flush=True)


def hf_variants(pretokenizer, text):
    """What Hugging Face's own files look like: normalizers, templates, added tokens, ignore_merges."""
    plain = hf_train(text, pretokenizer, 2000, 0)
    yield "hf", plain

    nfc = Tokenizer.from_str(plain.to_str())
    nfc.normalizer = normalizers.NFC()
    nfc.add_special_tokens(["<|im_start|>", AddedToken("é\u0301", normalized=True, special=True)])
    nfc.add_tokens(["<tool_call>", AddedToken("한국", normalized=True), AddedToken("e\u0301t", normalized=True)])
    yield "hf-nfc-added", nfc

    llama = json.loads(plain.to_str())
    llama["model"]["ignore_merges"] = True
    llama["model"]["merges"] = llama["model"]["merges"][:700]
    llama = Tokenizer.from_str(json.dumps(llama))
    llama.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", special_tokens=[("<|begin_of_text|>", 0)])])
    yield "hf-ignore-merges", llama


def main():
    with tempfile.TemporaryDirectory() as folder:
        terroir = Terroir(sys.argv[1], folder)
        check_training(terroir)
        corpus = "\n".join(samples().values())
        for pretokenizer in SPLITS:
            ours = terroir.train(corpus, "ours.json", "--pretokenizer", pretokenizer, "--vocab-size", 4000)
            check_encoding(terroir, ours, f"{pretokenizer}, our file")
            if pretokenizer == "llama-3":  # the classes are the same for all
                compare_ids(terroir, ours, Tokenizer.from_file(str(ours)), all_code_points(), "all code points")
            check(Tokenizer.from_file(str(ours)).encode("x").ids[0] == 0, "our file puts <|begin_of_text|> before a text")
            for name, hf in hf_variants(pretokenizer, corpus):
                path = pathlib.Path(folder) / "theirs.json"
                hf.save(str(path))
                check_encoding(terroir, path, f"{pretokenizer}, {name}")
    print("tokenizer parity: all equal")


if __name__ == "__main__":
    main()
