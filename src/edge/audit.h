/* The edge's audit: see audit.c. For state.c. */
#ifndef HT_EDGE_AUDIT_H
#define HT_EDGE_AUDIT_H

#include "base/buf.h"

#define EDGE_AUDIT_FILES 5 /* audit.log and those before it */

struct edge_audited {
    const char *who, *what, *from, *kind, *id, *parts;
    uint64_t version;
};

/* Appends the line of a change; `failed` says why it did not come about, NULL: it did. 0 or HT_ENOMEM. */
int edge_audit_line(struct ht_buf *out, const struct edge_audited *a, const char *failed) HT_MUST_USE;
/* The lines are on the disk when this returns 0. A file that would have more than `max_bytes` with them is followed by
 * a new one; 0: one file. HT_EIO with *err. */
int edge_audit_write(const char *folder, uint64_t max_bytes, struct ht_slice lines, struct ht_errmsg *err) HT_MUST_USE;

#endif
