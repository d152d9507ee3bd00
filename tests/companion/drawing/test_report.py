"""What notebooks show: figures of real (small) runs, their data, dark twins, banners, provenance, values."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from mfrbook.chapters.synthetic import figures as synthetic_figures
from mfrbook.chapters.synthetic import reading_tables, readings
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic import tables as synthetic_tables
from mfrbook.drawing import figures, palette, report
from mfrbook.store.provenance import PROJECT

SMALL = {
    "n_input_features": 24, "d_in": 12, "n_groups": 3, "n_active": 3, "n_features": 24, "k": 3, "steps": 30,
    "batch_size": 50, "reinit_window": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    from mfrbook.experiments.conditions import plan_conditions
    from mfrbook.experiments.planned import collected
    from mfrbook.store.store import Store

    store = Store(tmp_path_factory.mktemp("runs"))
    configs = [synthetic.configure({**SMALL, "seed": seed}, "smoke") for seed in range(2)]
    return collected([plan_conditions("synthetic", config, 3.0, synthetic.DATA_ID) for config in configs], store)


@pytest.fixture
def shown(monkeypatch):
    """What the notebook would display, in order."""
    outputs = []
    monkeypatch.setattr(report, "display", lambda what, raw=False: outputs.append(what if raw else what.data))
    return outputs


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def decode(uri):
    return base64.b64decode(uri.split("base64,")[1]).decode()


def plots(seeds):
    first = seeds[0]
    chance = synthetic_tables.chance(first["baseline"])
    yield synthetic_figures.similarity(first["baseline"], "Two baseline SAEs", chance)
    yield synthetic_figures.activity_plane({name: first[name] for name in ("baseline", "penalty")})
    yield figures.curves(seeds, "inactivity", "inactivity", reference=1.0, until=10)
    yield synthetic_figures.loss_with_fvu(seeds)
    yield synthetic_figures.early_against_cluster(seeds)


def test_every_figure_has_data_and_says_what_it_shows(seeds, shown):
    for plot in plots(seeds):
        report.figure(plot, "figure-x", "Caption.", list(seeds[0].values()))
        assert len(plot.alt) >= 40
        assert len(plot.data) > 0
    for text in shown:
        tags = Tags(text).found
        light, dark, *parts = (attributes for tag, attributes in tags if tag == "img")
        assert len(light["alt"]) >= 40
        assert dark["alt"] == light["alt"]
        assert all(len(part["alt"]) >= 20 for part in parts)
        (link,) = (attributes for tag, attributes in tags if tag == "a")
        assert link["download"] == "figure-x.csv"
        assert len(pd.read_csv(io.StringIO(decode(link["href"])))) > 0
        assert "mfr-provenance" in text


def test_the_dark_twin_is_a_view_in_which_ink_is_light(seeds, shown):
    report.figure(next(plots(seeds)), "figure-2", "Caption.", [seeds[0]["baseline"]])
    drawn = decode(Tags(shown[0]).found[1][1]["src"])
    style, rest = re.fullmatch(r"(?s).*?<style>(.*?)</style>(.*)", drawn).groups()
    assert palette.INK not in rest
    assert "var(--ink)" in rest
    light, dark = re.findall(r"--ink:(#\w+)", style)
    assert light == palette.INK
    assert dark != palette.INK
    assert '<view id="dark"/>' in rest


def test_the_same_run_draws_the_same_bytes(seeds, shown):
    for _ in range(2):
        report.figure(next(plots(seeds)), "figure-2", "Caption.", [seeds[0]["baseline"]])
    assert shown[0] == shown[1]


def test_coordinates_are_no_finer_than_a_screen_and_stay_where_they_were(seeds, shown):
    report.figure(next(plots(seeds)), "figure-2", "Caption.", [seeds[0]["baseline"]])
    light, target = decode(re.findall(r'src="(data[^"]+)"', shown[0])[0]), io.StringIO()
    figure = next(plots(seeds)).figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    figure.savefig(target, format="svg", dpi=160)
    whole, cut = (re.findall(r' [xy]="([^"]+)"', one) for one in (target.getvalue(), light))
    assert len(whole) == len(cut) > 2 * SMALL["n_features"]
    assert np.allclose(np.array(whole, float), np.array(cut, float), rtol=0, atol=0.01)
    assert not re.findall(r' [dxy]="[^"]*\.\d{3}', light)
    paths = ["".join(re.findall(r' d="([^"]+)"', one)) for one in (target.getvalue(), light)]
    commands, numbers = (
        [re.findall(pattern, one) for one in paths] for pattern in ("[A-Za-z]", r"-?[0-9.]+(?:e-?[0-9]+)?")
    )
    assert commands[0] == commands[1]
    assert np.allclose(np.array(numbers[0], float), np.array(numbers[1], float), rtol=0, atol=0.01)


def test_the_figure_draws_the_run(seeds):
    run = seeds[0]["baseline"]
    plot = synthetic_figures.similarity(run, "Two", synthetic_tables.chance(run))
    r = np.corrcoef(plot.data["across"], plot.data["input"])[0, 1]
    assert run.results["r"] == pytest.approx(r, abs=1e-5)
    assert f"r = {r:.3f}" in plot.figure.axes[0].get_title()
    drawn = sum(len(points.get_offsets()) for points in plot.figure.axes[0].collections)
    assert drawn == 2 * SMALL["n_features"]


def test_curves_are_of_the_steps_that_every_run_recorded(seeds):
    sparse = replace(seeds[0]["baseline"], metrics=seeds[0]["baseline"].metrics[::2])
    drawn = figures.curves([{"baseline": sparse}, {"baseline": seeds[1]["baseline"]}], "loss", "loss").data
    steps = {seed: part["step"].tolist() for seed, part in drawn.groupby("seed")}
    assert steps[0] == steps[1] == sparse.series("loss")[0].tolist()


def test_lines_of_single_saes_end_where_every_run_recorded_last(seeds):
    sparse = replace(seeds[0]["baseline"], metrics=seeds[0]["baseline"].metrics[::2])
    runs = [sparse, seeds[1]["baseline"]]
    last = int(sparse.series("loss")[0][-1])
    ends = [run.series("loss")[1][run.series("loss")[0] == last] for run in runs]
    sees = figures.curves([{"baseline": run} for run in runs], "loss", "loss", single=True).sees
    assert f"{np.min(ends):.2g} to {np.max(ends):.2g}" in sees


def test_curves_leave_out_what_was_not_run(seeds):
    assert set(figures.curves(seeds, "loss", "loss").data["condition"]) == set().union(*seeds)


def test_fvu_on_the_right_axis_is_loss_over_variance(seeds):
    data = synthetic_figures.loss_with_fvu(seeds).data
    results = seeds[0]["baseline"].results
    assert (data["fvu"] / data["loss"]).to_numpy() == pytest.approx(results["fvu"][0] / results["loss"][0])


def test_banner_gives_the_fraction_and_full_scale_has_none(seeds, shown):
    runs = list(seeds[0].values())
    report.banner(runs, "smoke", paper_samples=15_000)
    assert "10 %" in shown[0]
    report.banner(runs, "published", paper_samples=1500)
    assert len(shown) == 1


def test_banner_over_runs_of_several_sizes_gives_the_range(seeds, shown):
    from dataclasses import replace

    small = seeds[0]["baseline"]
    large = replace(small, results=small.results | {"samples": 15_000})
    report.banner([small, large], "published", paper_samples=15_000)
    assert "a run saw 1,500 to 15,000 samples, 10 % to 100 % of the paper's 15,000" in shown[0]


def test_banner_counts_stale_runs(seeds, shown):
    from dataclasses import replace

    run = seeds[0]["baseline"]
    report.banner([replace(run, provenance=run.provenance | {"behaviour": 0})], "published", paper_samples=1)
    assert "1 of 1 runs are stale" in shown[0]


def test_a_number_corrected_since_is_told_beside_the_others(seeds):
    run = seeds[0]["baseline"]
    assert "Corrected since" not in report.made_from([run])
    corrected = replace(run, provenance=run.provenance | {"corrected": "loss: measured again"})
    assert report.made_from([run, corrected])["Corrected since"] == "loss: measured again"


def test_keys_of_runs_stand_under_what_tells_the_runs_apart(seeds):
    from dataclasses import replace

    base = seeds[0]["baseline"]

    def made(key, **config):
        return replace(base, key=key * 16, config=base.config | config)

    runs = [
        made("b", seed=1, alpha=0.0),
        made("c", alpha=3.0),
        made("a", alpha=0.0),
        made("a", alpha=0.0, device="cpu"),
    ]
    assert report.by_condition(runs) == [
        f"alpha 3.0; seeds 0: {'c' * 16}",
        f"alpha 0.0; seeds 0, 1: {'a' * 16}, {'b' * 16}",
    ]
    many = {"alpha": 3.0, "steps": 7, "batch_size": 9, "decoder": "raw", "reduction": "sum"}
    told = report.by_condition([*runs, made("d", **many), made("e", seed=2, alpha=0.0)])
    assert told[1] == f"as most runs; seeds 0, 1, 2: {'a' * 16}, {'b' * 16}, {'e' * 16}"
    assert sorted(name.split()[0] for name in told[2].partition(";")[0].split(", ")) == sorted(many)
    shown = report.table_html(pd.DataFrame({"x": [1]}), "x", "X.", report.made_from(runs))
    assert f"<br>alpha 3.0; seeds 0: <code>{'c' * 16}</code>" in shown
    assert f"<dd>mfr verify {'b' * 16}</dd>" in shown


@pytest.mark.slow
def test_an_address_opens_the_provenance_and_a_key_becomes_its_command(seeds, browser, tmp_path):
    runs = list(seeds[0].values())
    tables = (
        report.table_html(pd.DataFrame({"x": [1]}), name, "X.", report.made_from(runs)) for name in ("one", "two")
    )
    script = (PROJECT / "book" / "_static" / "figures.js").read_text(encoding="utf-8")
    page = tmp_path / "x.html"
    page.write_text(f"<!DOCTYPE html><title>x</title><script>{script}</script>{''.join(tables)}", "utf-8")
    tab = browser.new_page()
    tab.goto(f"{page.as_uri()}#two")
    assert [fold.get_attribute("open") for fold in tab.locator("details").all()] == [None, ""]
    key = tab.locator("#two code").first
    for said in (f"mfr verify {key.inner_text()}", key.inner_text()):
        key.click()
        assert key.inner_text() == said
    tab.close()


def test_what_a_user_wrote_is_escaped(seeds, shown):
    plot = next(plots(seeds))._replace(alt='"><script>')
    report.figure(plot, "figure-2", "<script>", [seeds[0]["baseline"]])
    report.note("<script>")
    assert not any("<script>" in text for text in shown)


def test_values_are_plain_numbers(shown):
    report.values({"r": np.float64(0.5), "seeds": 5, "threshold": "never reached"})
    assert shown[0][report.VALUES_MIME] == {"r": 0.5, "seeds": 5.0, "threshold": "never reached"}
    report.values({"gain": np.float64("nan")})
    assert shown[1][report.VALUES_MIME] == {"gain": None}


def test_final_table_has_every_condition_and_its_mean(seeds):
    table = synthetic_tables.final(seeds).set_index("metric")
    assert table.columns.name is None
    assert set(table.columns) == set().union(*seeds)
    means = [np.mean(runs["baseline"].results["loss"]) for runs in seeds]
    assert table.loc["loss", "baseline"].middle == pytest.approx(np.mean(means))


def test_readings_at_smoke_size(monkeypatch):
    monkeypatch.setattr(readings, "ROWS", readings.ROWS[:2])
    monkeypatch.setattr(readings, "PRESET_SEEDS", {"one-group": 3, "released-head": 3})
    rows = readings.collect("smoke", values={"steps": 3, "batch_size": 20})
    switches, presets = reading_tables.cells(readings.switches(rows)), reading_tables.cells(readings.presets(rows))
    assert list(switches["choice"]) == ["no penalty", "raw decoder"]
    assert list(presets["choice"]) == ["one-group, α = 0", "one-group, α = 3", "released-head, α = 0"]
    assert {len(row.run.arrays["rate"][0]) for row in readings.presets(rows)} == {512}, "not at the paper's dimensions"
    plot = figures.effects(switches, {"fvu": "FVU"})
    assert len(plot.data) == 2
    assert set(reading_tables.values(switches)) >= {"no_penalty_fvu", "raw_decoder_cluster"}


def test_autoencoders_of_different_k_are_told_apart(monkeypatch):
    monkeypatch.setattr(readings, "ROWS", readings.ROWS[:1])
    monkeypatch.setattr(readings, "PRESET_SEEDS", {"released-oct24": 1})
    rows = readings.collect("smoke", values={"steps": 3, "batch_size": 20})
    table = reading_tables.by_k(rows)
    assert list(table["choice"]) == [f"released-oct24, α = {alpha}, k = {k}" for alpha in (0, 3) for k in (36, 72)]
    values, means = reading_tables.values(table), reading_tables.values(reading_tables.cells(rows))
    for alpha in (0, 3):
        name = f"released_oct24_alpha_{alpha}"
        assert (values[f"{name}_k_36_fvu"] + values[f"{name}_k_72_fvu"]) / 2 == pytest.approx(means[f"{name}_fvu"])
    assert list(reading_tables.by_k_summary(table)) == [
        "choice",
        "FVU",
        "MMCS with true features",
        "true features recovered",
        "cluster",
    ]
