"""The flags of a scan of many files, in the terms of the fleet."""

from normcheck.config.flags.reading_flags import Sharing
from normcheck.errors import UsageError
from normcheck.fleet.fleet_request import Cluster, Engine, Fleet
from normcheck.sources.place import local


def requested_fleet(words: Sharing) -> Fleet:
    """How the work is shared out.

    Raises:
        UsageError: Flags that have nothing to do with the engine that was chosen.
    """
    if words.engine == Engine.RAY:
        if words.jobs is not None:
            raise UsageError(
                "--jobs counts processes of this machine, Ray counts its own",
                "leave it out; --cpus-per-task says how many files share a machine",
            )
    else:
        for flag, given in (
            ("--ray-address", words.ray_address),
            ("--cpus-per-task", words.cpus_per_task is not None),
            ("--gpus-per-task", words.gpus_per_task is not None),
        ):
            if given:
                raise UsageError(f"{flag} belongs to --engine ray", "add it, or leave it out")
    one = 1.0 if words.cpus_per_task is None else words.cpus_per_task
    return Fleet(
        jobs=words.jobs or 0,
        copies=True,
        engine=Engine(words.engine),
        cluster=Cluster(words.ray_address, one, words.gpus_per_task or 0.0),
        cache=local(words.cache, "--cache") if words.cache else None,
    )
