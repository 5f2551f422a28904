# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the benchmark scripts share: the line about the machine, contestants in processes of their own, comparison of
outputs, tables. Knows no library that is measured."""
import csv
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
PAUSE = 1.0  # seconds before a run: threads of some libraries spin for a while behind theirs
MIB = 1 << 20

# Most MiB of a whole process for dc-ae-f32c32-sana-1.0: at any size, and more for each 1024×1024 pixels. Only to leave
# out what would not fit; what was used is measured.
NEEDS = {"dcae": (1400, 1600), "dcae bf16": (900, 900), "diffusers f32": (2400, 2700), "diffusers bf16": (1900, 1400),
         "diffusers f32 torch.compile": (3200, 2700), "diffusers f32 tiled": (3200, 100), "openvino": (3800, 2400)}


def machine():
    """The processor in words, and its flags."""
    with open("/proc/cpuinfo") as info:
        lines = info.read().splitlines()
    model = next((l.split(":")[1].strip() for l in lines if l.startswith("model name")), platform.processor())
    flags = next((l.split(":")[1].split() for l in lines if l.startswith("flags")), [])
    isa = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "SSE2"
    family = [next((l.split(":")[1].strip() for l in lines if l.startswith(key)), "?") for key in ("cpu family", "model\t")]
    return (f"{model} (family {family[0]} model {family[1]}), {isa}{', BF16' if 'avx512_bf16' in flags else ''}, "
            f"{os.cpu_count()} processors"), flags


def git(*args):
    return subprocess.run(["git", "-C", HERE, *args], capture_output=True, text=True).stdout.strip()


def banner(what):
    """Prints where and when this was measured. A busy machine is said, not hidden."""
    changed = " with changes" if git("status", "--porcelain", "-uno", "--", "../dcae-core", "../gst") else ""
    print(f"{what}\n{machine()[0]}; {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC; "
          f"commit {git('rev-parse', '--short', 'HEAD') or 'unknown'}{changed}; load {os.getloadavg()[0]:.1f}\n", flush=True)
    if os.getloadavg()[0] > 1.5:
        print("The machine is busy with something else: these times are worth little.\n", file=sys.stderr, flush=True)


def available_mib():
    with open("/proc/meminfo") as info:
        return next(int(line.split()[1]) for line in info if line.startswith("MemAvailable")) >> 10


def needed_mib(name, width, height, limit=0):
    """limit: what the codec was told to use at most, 0 for no limit."""
    key = max((k for k in NEEDS if name.startswith(k)), key=len, default="diffusers f32")
    fixed, mebipixel = NEEDS[key]
    return fixed + (limit if limit else int(mebipixel * width * height / MIB))


def picture(width, height, seed=1):
    """A picture with edges, gradients and noise, the same in every process. Made by rows: it must not be what decides
    how much memory a process takes."""
    rng = np.random.default_rng(seed)
    x = np.arange(width, dtype=np.float32)[:, None]
    tint = np.arange(3, dtype=np.float32)
    made = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        row = 128 + 90 * np.sin(x / 37 + tint + seed) * np.cos(np.float32(y / 53) - tint)
        row += 40 * ((x // 64 + y // 64) % 2) + 8 * rng.standard_normal(row.shape, np.float32)
        made[y] = row.clip(0, 255)
    return made


def latent(channels, width, height):
    return np.random.default_rng(2).normal(0, 1, (channels, height, width)).astype(np.float32)


def relative_error(got, wanted):
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


class Failed(RuntimeError):
    pass


class Contestant:
    """A process that loaded one way to do the work, ran it once, and runs it again when it is asked."""

    def __init__(self, name, command, threads):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
                   PYTHONWARNINGS="ignore")
        self.name = name
        self.ms = []
        self.process = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=env)
        self.first_ms = float(self._answer())

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.name}: the process ended with status {self.process.wait()}")
        return line.strip()

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def ask_json(self, word):
        return json.loads(self.ask(word))

    def run(self):
        time.sleep(PAUSE)
        self.ms.append(float(self.ask("run")))
        return self.ms[-1]

    def output(self):
        with tempfile.TemporaryDirectory() as folder:
            self.ask("save " + os.path.join(folder, "output.npy"))
            return np.load(os.path.join(folder, "output.npy"))

    def quit(self):
        """Ends the process and returns its peak memory in MiB."""
        peak = int(self.ask("quit"))
        self.process.wait()
        return peak

    def kill(self):
        self.process.kill()
        self.process.wait()


def serve(prepare, extra=None, limit=True):
    """The other side of Contestant. prepare() returns a function that does the work once and returns an array. extra:
    more words that may be asked, each with a function whose result is answered as JSON. limit: take no more memory than
    is free; not for CUDA, whose driver reserves addresses by the terabyte."""
    with open("/proc/self/oom_score_adj", "w") as file:  # if memory runs out, this process goes first
        file.write("1000")
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (available_mib() * MIB,) * 2)
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)  # libraries that print must not disturb the answers
    try:
        run = prepare()
        output, ms = timed(run)
    except Exception as error:  # whatever a library throws: the other side says who is left out
        raise SystemExit(f"{type(error).__name__}: {error}")
    print(ms, file=answers, flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "run":
            output, ms = timed(run)
            answer = ms
        elif word == "save":
            np.save(rest, output)
            answer = "saved"
        elif word == "quit":
            answer = peak_mib()
        else:
            answer = json.dumps(extra[word]())
        print(answer, file=answers, flush=True)
        if word == "quit":
            os._exit(0)  # some libraries complain when Python takes their objects apart


def timed(run):
    start = time.perf_counter()
    output = run()
    return output, (time.perf_counter() - start) * 1e3


def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) >> 10


def start(name, command, threads, needed=0):
    """A contestant, or None with a line that says why not: one that this machine can't run stops nobody else."""
    if needed > available_mib():
        print(f"{name} is left out: it needs about {needed} MiB, {available_mib()} are free", file=sys.stderr, flush=True)
        return None
    try:
        return Contestant(name, command, threads)
    except Failed as error:
        print(f"{error}; it is left out", file=sys.stderr, flush=True)
        return None


def network(name, args, direction, width, height, threads=None, tiling="auto", memory_limit=0):
    """Starts worker.py with one way to run one direction of the model."""
    threads = threads or args.threads
    command = [os.path.join(HERE, "worker.py"), name, direction, args.model, str(width), str(height), "--library",
               os.path.abspath(args.library), "--threads", str(threads), "--tiling", tiling, "--memory-limit",
               str(memory_limit)]
    return start(name, command, threads, needed_mib(name, width, height, memory_limit))


def spread(ms):
    return {"median_ms": round(statistics.median(ms), 2), "min_ms": round(min(ms), 2), "max_ms": round(max(ms), 2)}


def table(rows):
    columns = list(rows[0])
    print("| " + " | ".join(c.replace("_", " ") for c in columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row[c]) for c in columns) + " |")
    print(flush=True)


def write_csv(path, rows):
    """Every line carries machine, date and commit, so that files can be put together."""
    about = {"commit": git("rev-parse", "--short", "HEAD"), "date": f"{datetime.date.today()}", "machine": machine()[0]}
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [*about, *rows[0]])
        writer.writeheader()
        writer.writerows({**about, **row} for row in rows)


def pyplot():
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    return plt
