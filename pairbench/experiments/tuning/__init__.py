"""Fair tuning: as many trials for every row, on seeds and contexts that no board reports.

A trial is a choice of settings from the space that a method declares (`Method.spaces`), run with
every tuning seed under one protocol and evaluated on the task's validation contexts; its value is
the mean reward over the seeds. Trial 0 is the row as it stands, so that the best trial is never
below it on those seeds. The next ones, up to `DRAWN`, are drawn at random; the others are proposed
by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) from all before them. Trial k
depends on the sampler's seed, the row, k and the trials before it, and on nothing else: a study
that is killed goes on as it would have, and one that is asked for more trials keeps those it has.

    <results>/tuning/<study>/study.json          terms and trials
    <results>/tuning/<study>/tuned-<task>.toml   the suite of the settings found
    <results>/tuning/<study>/trials.jsonl        a record for each run of a trial
    <results>/tuning/<study>/series.parquet      their series
    <results>/tuning/<study>/runs/               a results folder, while a call is at work
"""
