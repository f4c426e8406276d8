"""`gr2`: stages and what runs hold; new, run, ablate, reproduce, follow, rollouts, rank, refresh, serve; stages."""

import os
import shlex
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gr2 import __version__
from gr2.artifacts import Corpus, Scores, Slates
from gr2.config import SEEDS
from gr2.errors import UserError, in_one_line
from gr2.evaluate.headline import headline
from gr2.follow import follow_item
from gr2.lm.memory import keep_freed_memory
from gr2.prompt.readable import readable
from gr2.run import CONFIG, STAGES, about, console, folder_of, load_config, run_stages, stage_named, table_of
from gr2.show import EVALUATION, REPORT, before_after, main_table, next_step, overview, runs_below, titles
from gr2.types import AnswerStatus, Slate, Split

DEBUG = "--debug"
RUNS = Path("runs")
DOCS = Path("docs")
SHOWN = 10
"""Newest history items shown by `gr2 rank`."""

Run = Annotated[Path, typer.Option("--run", help="Run folder, for example runs/nano.")]
app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def gr2(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")] = False,
) -> None:
    """An open generative reasoning re-ranker. Alone: the stages, and what the runs below runs/ hold."""
    if version:
        print(f"gr2 {__version__}")
    elif context.invoked_subcommand is None:
        runs = runs_below(RUNS)
        console.print(overview(runs, console.width))
        console.print(f"\n{escape(next_step(runs))}", soft_wrap=True)


@app.command()
def new(
    config: Annotated[Path, typer.Argument(help="TOML file to write, for example shop/shop.toml.")],
    items: Annotated[Path, typer.Option(help="Your catalogue: .jsonl, .csv (also .gz) or .parquet.")],
    events: Annotated[Path, typer.Option(help="Your log: one event a row, or one sequence a user.")],
) -> None:
    """Read your catalogue and log, and write the config that a first run starts from."""
    from gr2.new import said, start

    for line in said(start(config, items, events), config):
        console.print(escape(line), highlight=False, soft_wrap=True)


@app.command("run")
def run_command(
    config: Annotated[Path, typer.Argument(help="TOML file, one table a stage.")],
    run: Annotated[
        Path | None, typer.Option(help="Run folder; runs/<name of the config> where it is left out.")
    ] = None,
    until: Annotated[str, typer.Option(help="Last stage to run.")] = STAGES[-1],
    redo: Annotated[list[str] | None, typer.Option(help="Make this stage and all that reads it again.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=SEEDS - 1, help="Another seed than the config's; goes to runs/<name>-<seed>."),
    ] = None,
) -> None:
    """Run every stage, skipping what is complete and going on where a stopped run was."""
    settings = load_config(config)
    if seed is not None:
        settings = settings.of_seed(seed)
    run = run or RUNS / settings.name
    last = STAGES.index(stage_named(until))
    run_stages(run, settings, STAGES[: last + 1], [stage_named(name) for name in redo or ()])
    if last == len(STAGES) - 1:
        show_scores(run)


def show_scores(run: Path) -> None:
    """Print the main table, one protocol after the other, what it says, and where the report lies."""
    scores = Scores.load(run / EVALUATION)
    for protocol in scores.table:
        console.print(main_table(scores, protocol), "")
    console.print(f"[bold]{escape(headline(scores))}[/]", highlight=False)
    console.print(escape(f"report: {run / EVALUATION / REPORT}"), soft_wrap=True)


def stage_command(stage: str) -> Callable[[Path], None]:
    def command(run: Run) -> None:
        run_stages(run, load_config(run / CONFIG), [stage], [])

    command.__doc__ = about(stage)
    return command


for _stage in STAGES:
    app.command(table_of(_stage), rich_help_panel="One stage, with the run's config")(stage_command(_stage))


@app.command()
def ablate(
    config: Annotated[Path, typer.Argument(help="TOML file with a table [ablate].")],
    only: Annotated[list[str] | None, typer.Option(help="Make the runs of this component only.")] = None,
    table: Annotated[str | None, typer.Option(help="Also put the rows into docs/results.json as this table.")] = None,
) -> None:
    """What each component is worth: runs without it, over seeds, against the full runs."""
    from gr2 import ablate as ablation
    from gr2.evaluate.ablation import END_TO_END
    from gr2.evaluate.results import put_rows

    plan = ablation.load_plan(config)
    finished = ablation.ablate(plan, RUNS, only or ())
    made = [] if len(finished) == len(plan.without) else [word for name in finished for word in ("--only", name)]
    command = shlex.join(["gr2", "ablate", str(config), *made, *(["--table", table] if table else [])])
    rows = ablation.conclude(plan, RUNS, finished, table or "ablation", command)
    if table:
        put_rows(DOCS, [table, table + END_TO_END], rows)


@app.command()
def reproduce(
    table: Annotated[
        str | None, typer.Argument(help="A table of docs/results.json; all are listed without it.")
    ] = None,
    runs: Annotated[bool, typer.Option("--runs", help="First make the runs that it pools, where missing.")] = False,
) -> None:
    """Make a table of docs/results.json again and compare; exit code 1 when a number differs."""
    from gr2.reproduce import compare_again, stored, tables

    if table is None:
        console.print(tables(stored(DOCS)))
    elif not compare_again(DOCS, table, runs):
        raise typer.Exit(1)


@app.command()
def follow(title: Annotated[str, typer.Argument(help="Title of an item, or its id.")], run: Run) -> None:
    """Follow one item through every stage, from the run's own files."""
    follow_item(run, title)


@app.command()
def rollouts(
    run: Run,
    step: Annotated[int | None, typer.Option(min=0, help="Optimizer steps made before them.")] = None,
    slate: Annotated[str | None, typer.Option(help="Slate id, as `gr2 rollouts` lists them.")] = None,
) -> None:
    """What the model tried in the RL: prompts, thoughts, answers, and what each was paid."""
    from gr2.rollouts import show_rollouts

    show_rollouts(run, step, slate)


@app.command()
def rank(
    user: Annotated[str, typer.Option(help="User id.")],
    run: Run,
    think: Annotated[bool, typer.Option(help="Let the model think first.")] = False,
) -> None:
    """Re-rank a user's newest test slate and show before, after and the thought."""
    from gr2.serve.ranker import Bundle

    items = {item.item_id: item for item in Corpus.load(run / folder_of("s01_corpus")).items}
    slate = newest_test_slate(run, user)
    bundle = Bundle.load(run / folder_of("s11_bundle"))
    ranking = bundle.rank([slate], think=think)[0]
    history = slate.history[-SHOWN:]
    console.print(
        f"[bold]user {escape(user)}[/], slate {escape(slate.slate_id)}; newest of {len(slate.history)} events:"
    )
    console.print(f"{titles(history, items)}\n")
    console.print(before_after(slate, ranking, items))
    if ranking.status is not AnswerStatus.VALID:
        console.print(f"[yellow]the answer was not valid ({ranking.status}): this is the incoming order[/]")
    if ranking.thought:
        console.print(f"\n[bold]thought[/] {escape(readable(ranking.thought, slate, items, bundle.ids.of))}")


def newest_test_slate(run: Path, user: str) -> Slate:
    """Raises UserError when the user has none."""
    tests = Slates.load(run / folder_of("s04_slates")).split(Split.TEST)
    own = [slate for slate in tests if slate.user_id == user]
    if not own:
        some = ", ".join(sorted({slate.user_id for slate in tests})[:5])
        raise UserError(f"{run}: user {user!r} has no test slate; try one of {some}, ...")
    return max(own, key=lambda slate: (slate.time, len(slate.history), slate.slate_id))


@app.command()
def refresh(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, for example runs/nano/11_bundle.")],
    events: Annotated[Path, typer.Option(help="The whole log until now, in the form of [corpus] events.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not be there.")],
) -> None:
    """The same model with the counts of a newer log: write a new bundle, in seconds."""
    from gr2.serve.refresh import refresh as make

    counted = make(bundle, events, out)
    console.print(f"counted {counted.events:,} events of {counted.users:,} people", highlight=False)
    if counted.left_out:
        console.print(f"left out {counted.left_out:,} events of items that the bundle does not know", highlight=False)
    console.print(escape(f"serve it: gr2 serve {out}"), soft_wrap=True, highlight=False)


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, for example runs/nano/11_bundle.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Answer POST /v1/rerank (the Cohere, Jina and vLLM shape, plus user_history)."""
    import uvicorn

    from gr2.serve import http
    from gr2.serve.ranker import Bundle

    served = Bundle.load(bundle)
    served.warm_up()
    uvicorn.run(http.app(served), host=host, port=port)


def main() -> None:
    """Entry point: a UserError is one line on stderr and exit code 2; Ctrl-C is exit code 130."""
    keep_freed_memory()
    # Read by transformers when it is imported, which the commands do only where they need it.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    arguments = sorted(sys.argv[1:], key=lambda argument: argument != DEBUG)  # understood wherever it stands
    with nullcontext() if DEBUG in arguments else in_one_line():
        app(arguments)
