/*
 * Host, Origin, and what tells the service about the visitor. The one rule, for requests whose fields are set here:
 *
 *   of a trusted edge  X-Forwarded-* and X-Real-IP stay. X-Forwarded-For and Forwarded get the edge's address as
 * another item, unless it is the last one already. X-Forwarded-Host, -Proto and -Port are added if missing. of anybody
 * else    all of them are removed. X-Forwarded-For, -Host, -Proto, -Port and Forwarded are set.
 *
 * Where requests are passed on instead, all of them stay as they came.
 */
#ifndef HT_GATE_FORWARDED_H
#define HT_GATE_FORWARDED_H

#include "base/base.h"
#include "base/buf.h"
#include "gate/visitor.h"
#include "wire_gen.h"

#include <sys/types.h>

#define GATE_FORWARDED_FIELDS 6 /* most that are added to a request */

struct gate_forward {
    const char *host;    /* the new Host; NULL: the visitor's */
    bool set;            /* sets the fields, else passes them on */
    bool secure;         /* the service is reached by TLS */
    const char *visited; /* the visitor's own Host; "": none */
    bool https;          /* the visitor uses https */
};

/*
 * Writes the fields of a request, as the service gets them, to out[0..cap). They borrow from `open`, from `f` and from
 * *text, which is used anew. Returns their number, HT_ESPACE or HT_ENOMEM.
 */
ssize_t gate_forwarded_put(const struct gate_forward *f, const struct gate_visitor *v,
                           const struct wire_stream_open *open, struct ht_buf *text, struct wire_header *out,
                           size_t cap) HT_MUST_USE;

#endif
