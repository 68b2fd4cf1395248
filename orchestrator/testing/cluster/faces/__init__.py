r"""Faces: small programs that behave as the commands of a batch system do, on the jobs of a cluster.

How a face is written. A command is a function in a module here, which gets a client and the words of its command line,
prints as the real one does, and returns its exit code:

    def bsub(cluster: Client, words: list[str]) -> int:
        try:
            job = cluster.submit(["/bin/sh", words[-1]], name=…, out=…, variables={"LSB_JOBID": "{job}"})
        except Rejected as error:                       # the cluster was told to refuse the next one
            sys.stderr.write(f"{error}. Job not submitted.\n")
            return 255
        except Unreachable:                             # down, or the answer was lost
            sys.stderr.write("Failed in an LSF library call: LIM is down; try later. Job not submitted.\n")
            return 255
        print(f"Job <{job}> is submitted to default queue <normal>.")
        return 0

`Nonsense` is left to the launcher: it prints the text and exits with 0. What the face has to remember of a submission
goes into `extra`, and comes back in each `Row`. Where the real system behaves in its own way at the end of a job, the
cluster is told so: `Cluster(…, linger=300)` (over, and still in the queue), `history=False`, `history_lag=1`;
`submit(first="", grace=0)` (killed without a warning), `requeue=True`.

    with Cluster(directory) as cluster:
        cluster.install({"bsub": "orch.testing.cluster.faces.lsf:bsub", …})     # into cluster.bin, for PATH
        cluster.set(down=True)

Functions import little, and from the standard library and `orch.testing.cluster` only: a command takes 30 ms then
(`argparse` costs 10 of them, and is worth it where there are many options). Faces of others name the folder in which
their modules are: `cluster.install(…, path=folder)`.
"""
