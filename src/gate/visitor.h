/* Whose request it is. */
#ifndef HT_GATE_VISITOR_H
#define HT_GATE_VISITOR_H

#include "base/base.h"
#include "base/cidr.h"
#include "base/err.h"
#include "io/io.h"
#include "wire_gen.h"

struct gate_nets {
    struct ht_cidr *nets;
    size_t n;
};

/* Reads networks, several in a text with commas between. 0, HT_ENOMEM, or HT_EINVAL with *err. The caller frees *to in
 * each case. */
int gate_nets_parse(struct gate_nets *to, const char *const *texts, size_t n, struct ht_errmsg *err) HT_MUST_USE;
void gate_nets_free(struct gate_nets *n);
bool gate_nets_have(const struct gate_nets *n, const struct io_addr *a);

struct gate_visitor {
    bool known;            /* false: nobody has said who it is */
    struct io_addr addr;   /* the visitor's */
    bool edge_known, edge; /* the connection comes from `from`, and that is a trusted edge */
    struct io_addr from;
};

/*
 * The visitor is where the connection came from, as the kit says. If that is a trusted edge, it is the last address in
 * X-Forwarded-For that is not one. What an untrusted visitor has written there does not count. An edge that names
 * nobody, or something that is no address, leaves the visitor unknown.
 */
void gate_visitor_read(struct gate_visitor *v, const struct wire_stream_open *open, const struct gate_nets *edges);

#endif
