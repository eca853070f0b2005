/*
 * Header fields that a user sets, adds and removes:
 *   "Name: value"   the message has this field once, with this value
 *   "+Name: value"  this one more
 *   "-Name"         none of this name
 * They are carried out in their order. Names of fields that frame a message, belong to one connection or to the
 * handshake of a WebSocket are refused.
 */
#ifndef HT_GATE_RULES_H
#define HT_GATE_RULES_H

#include "base/base.h"
#include "base/err.h"
#include "wire_gen.h"

#include <sys/types.h>

#define GATE_RULES_MAX 64 /* for requests, and as many for answers */

enum gate_rule_kind { GATE_SET, GATE_ADD, GATE_REMOVE };

struct gate_rule {
    enum gate_rule_kind kind;
    struct ht_slice name, value; /* the name in lower case */
};

struct gate_rules {
    struct gate_rule *rules;
    size_t n;
    char *text; /* what the slices point into */
};

/* `request`: they are for requests, where Host has an option of its own. 0, HT_ENOMEM, or HT_EINVAL with *err. The
 * caller frees *r in each case. */
int gate_rules_parse(struct gate_rules *r, const char *const *texts, size_t n, bool request,
                     struct ht_errmsg *err) HT_MUST_USE;
void gate_rules_free(struct gate_rules *r);
/* Carries the rules out on fields[0..n). Returns the new number, or HT_ESPACE: there would be more than `cap`. */
ssize_t gate_rules_apply(const struct gate_rules *r, struct wire_header *fields, size_t n, size_t cap) HT_MUST_USE;

#endif
