/*
 * Seeded faults: `make conformance-mutants` proves with them that the conformance suite sees what it claims to see.
 *
 * HT_MUTANT(FLOW_4) is true when the program was built with MUTANTS=1 and the environment's HT_MUTANT is FLOW_4. Each
 * stands in one line, at the place where the rule of that id is kept, and breaks it the way a programmer would. In
 * every other build it is the constant false, and nothing of it is left in the object code.
 */
#ifndef HT_BASE_MUTANT_H
#define HT_BASE_MUTANT_H

#ifdef HT_MUTANTS
#include "mutants_gen.h"
#define HT_MUTANT(id) (ht_mutant(HT_MUTANT_##id))
#else
#define HT_MUTANT(id) (0)
#endif

#endif
