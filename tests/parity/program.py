"""The program under test, and how a parity script reports: one line a check, exit 1 when one failed."""
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
LANGUAGES = sorted(path.stem for path in (ROOT / "data/samples").glob("??.txt"))

# More ranks than cores, any user, no network: as launch/local_mpi.sh sets it.
MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none", "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo"}


def sample_lines(language):
    return [line for line in (ROOT / f"data/samples/{language}.txt").read_text("utf-8").splitlines() if line]


class Terroir:
    """Runs `terroir` in one folder; relative paths are in it."""

    def __init__(self, program, folder):
        self.program, self.folder = os.path.abspath(program), pathlib.Path(folder)

    def run(self, *arguments, ranks=1, stdin=None):
        """What it wrote on stdout; anything but exit 0 ends the script with its stderr."""
        launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
        command = [*launcher, self.program, *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=self.folder,
                              env={**os.environ, **MPI_ENVIRONMENT})
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout

    def helper(self, name, *arguments):
        """A program of the tests that lies beside the one under test."""
        subprocess.run([os.path.join(os.path.dirname(self.program), name), *map(str, arguments)], cwd=self.folder, check=True)

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "--json"))

    def train_tokenizer(self, vocab_size, pretokenizer="llama-3"):
        out = self.folder / f"tokenizer-{vocab_size}-{pretokenizer}.json"
        if not out.exists():
            self.run("tokenizer", "train", "--vocab-size", vocab_size, "--pretokenizer", pretokenizer, "--out", out,
                     *(ROOT / f"data/samples/{language}.txt" for language in LANGUAGES))
        return out

    def build_shards(self, tokenizer, lines, out, *options):
        """Shards of one source, named like their folder, with every document in the training split."""
        text = self.folder / f"{out}.txt"
        text.write_text("".join(line + "\n" for line in lines), "utf-8")
        self.run("data", "build", "--tokenizer", tokenizer, "--language", "mul", "--license", "Apache-2.0", "--source", out,
                 "--validation-fraction", 0, *options, "--out", out, text)
        return self.folder / out

    def train(self, name, config, ranks=1):
        """Trains from a configuration given as nested dicts; the run's folder. JSON is YAML."""
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({"run": {"name": name}, **config}, indent=1))
        self.run("train", path, ranks=ranks)
        return self.folder / "runs" / name


def read_metrics(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line.get("split") != "validation"]


class Report:
    """Prints each check; `finish` gives the exit status."""

    def __init__(self):
        self.failed = 0

    def check(self, ok, text):
        self.failed += not ok
        print(f"{'ok    ' if ok else 'FAILED'} {text}", flush=True)

    def below(self, value, limit, text):
        """NaN fails."""
        self.check(bool(value <= limit), f"{text}: {value:.2g}, at most {limit:.0e}")

    def finish(self):
        return 1 if self.failed else 0
