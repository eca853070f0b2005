"""spec/protocol.yaml -> mutants_gen.h, mutants_gen.c: the ids of seeded faults (src/base/mutant.h), made from the ids of the rules.

FLOW-4 gives FLOW_4, and FLOW_4_B, FLOW_4_C, ... for further faults against the same rule. Only `make MUTANTS=1` uses them.
"""

from gen import protocol
from gen.render import banner, render as render_template

VARIANTS = ("", "_B", "_C", "_D")


def ids(spec_dir):
    """[(id in C, rule)]"""
    return [(rule.replace("-", "_") + variant, rule) for rule in protocol.load(spec_dir).rules for variant in VARIANTS]


def render(name, spec_dir):
    return render_template(name + ".j2", banner=banner("protocol.yaml"), ids=ids(spec_dir))
