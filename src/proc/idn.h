/* What a refused name with letters beyond ASCII would have to be. */
#ifndef HT_PROC_IDN_H
#define HT_PROC_IDN_H

#include "base/base.h"
#include "base/err.h"

/* A name or host was refused. When it has letters beyond ASCII, *err becomes a sentence with its A-labels, if those can
 * be known. */
void proc_idn_hint(const char *text, struct ht_errmsg *err);

#endif
