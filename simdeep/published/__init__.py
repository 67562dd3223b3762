"""Published runs: hundreds of other people's training steps, predicted and compared.

How it goes, a module each:

- `cases`: reads `data/published/runs.json`; family and half (SHA-256 of the id) of a run.
- `frameworks`: `data/frameworks/*.yaml`, what each framework does where a source is silent, and at
  most three fitted numbers of it.
- `models`, `clusters`: a run's model as a Hugging Face config, its hardware as a topology.
- `build`: the three files of a run's scenario, with a list of what was taken for unstated fields.
- `predict`: simulates it: seconds of a step, peak memory. `rates`: bubble rates by replay.
- `score`, `targets`: errors by run, family and half; what must hold on the test half.
- `run`: all of it on two processes; `files`, `chart`: what `--out` writes.
- `kernels`, `curves`: make `data/calibration/{a100,b200,gb200,gb300,h100-*}.yaml` from tables
  of published kernel times (`data/traces`). `fit`: fits the factors of
  `data/published/fitted.yaml` and the frameworks' numbers on the fit half alone.
- `report`: makes `reports/fidelity.html`.

To improve a family: run `simdeep validate published --family NAME`, look for what its errors go
with (batch, tensor parallel degree, width, nodes), and add the effect to the simulator (a kernel in
`program/workload`, a transfer in `program/lower/template`), a habit to a framework file, or a rate
to a calibration. Never a number for one run or one family.
"""
