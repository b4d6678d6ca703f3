"""The long tables of the page: every way to compute, every fault."""

from __future__ import annotations

from bench.tolerance.limits import Results, excess, fault_names, first_over, kind_of, noise_passes, number
from bench.tolerance.markdown import ELSEWHERE, models, prose, short, table, times, todays_limits


def noise_section(results: Results) -> str:
    rows = []
    for dtype in ("fp32", "bf16"):
        for name, model in models(results):
            groups: dict[str, dict[str, tuple[float, str]]] = {}
            for where, way, apart in noise_passes(model, dtype):
                group = groups.setdefault(where, {})
                for figure in ("loss", "token_loss_max", "block"):
                    value = number(apart[figure])
                    if value > group.get(figure, (-1.0, ""))[0]:
                        group[figure] = (value, way)
            for where, group in groups.items():
                rows.append(
                    [
                        dtype,
                        name,
                        where,
                        short(group["loss"][0]),
                        group["loss"][1],
                        short(group["token_loss_max"][0]),
                        short(group["block"][0]),
                        group["block"][1],
                    ]
                )
    head = ["compute", "model", "weights, processor", "loss", "in", "one token", "block", "in"]
    text = prose("""
        The largest over all ways to compute the same: 1 and 2 threads; the probe alone, in a batch of 2 and
        of 4; padded on the right by 1, 37 and 128; through the cache in 2 and 3 pieces; the head in one
        product and in pieces; sdpa as it is, with its math backend, with an explicit mask, attention by hand;
        oneDNN on and off; references recorded with 1 thread and without oneDNN; weights as imported, and
        rounded to bf16 and f16 with the reference of the same (the ways that differed); and the instruction
        sets of other processors, with the reference of this one.""")
    return f"## Noise\n\n{text}\n{table(head, rows)}\n{_way_table(results)}"


def _way_table(results: Results) -> str:
    """Every way with the weights as imported: most are bit-equal to each other."""
    names = [name for name, _ in models(results)]
    rows = []
    first = next(iter(results["models"].values()))["noise"]
    for dtype in ("fp32", "bf16", "reduced"):
        for way in first[f"{dtype}, stored keep"]:
            figures = [m["noise"][f"{dtype}, stored keep"][way] for _, m in models(results)]
            cells = [f"{short(each['loss'])} / {short(each['block'])}" for each in figures]
            rows.append([{"reduced": "fp32"}.get(dtype, dtype), way, *cells])
    return table(["compute", "way (weights as imported)", *(f"{name}: loss / block" for name in names)], rows)


def faults_section(results: Results) -> str:
    limits = todays_limits(results)
    none = [name for name in next(iter(models(results)))[1]["faults"] if name not in fault_names(results)]
    names = none + sorted(fault_names(results), key=lambda each: excess(results, each, limits))
    rows = []
    for name in names:
        cells = [
            name,
            "none" if name in none else kind_of(results, name),
            times(excess(results, name, limits)),
        ]
        for _, model in models(results):
            fault = model["faults"].get(name)
            if fault is None:
                cells += ["", "", "", ""]
                continue
            apart, layers = fault["fp32"], model["config"]["num_hidden_layers"]
            cells += [
                short(apart["loss"]),
                short(apart["block"]),
                first_over(apart, limits["block"], layers),
                short(fault["bf16"]["loss"]),
            ]
        rows.append(cells)
    head = ["fault", "kind", "of the limit"]
    for name, _ in models(results):
        head += [f"{name}: loss", "block", "first block over", "loss in bf16"]
    text = prose(f"""
        Planted in the loaded decoder; all load without an error and leave every shape right. What else
        catches them: `weights`, {ELSEWHERE["weights"]}; `config`, {ELSEWHERE["config"]}; `computation`,
        {ELSEWHERE["computation"]}. `none`, rotary embedding cannot tell the difference, so this is noise.
        Empty: the model has no such part. Every figure is a distance from the fp32 reference.""")
    return f"## The faults, the weakest first\n\n{text}\n{table(head, rows)}"
