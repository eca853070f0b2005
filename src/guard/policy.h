/*
 * The policy for the requests to one host: which requests are allowed, and which header fields they get. Pure, except
 * that secrets come from files, variables and commands.
 *
 * A request is checked first and gets its secrets afterwards, so a refused request never meets a secret. A secret
 * belongs to one host: the name that the program has connected to. The request's Host must be the same.
 */
#ifndef HT_GUARD_POLICY_H
#define HT_GUARD_POLICY_H

#include "audit_gen.h"
#include "base/base.h"
#include "base/err.h"
#include "io/io.h"
#include "wire_gen.h"

#include <sys/types.h>

#define GUARD_HEADERS_MAX 16    /* most fields that one policy sets */
#define GUARD_PLACEHOLDER_MIN 8 /* characters; a shorter text would be found by accident */
#define GUARD_PLACEHOLDER_MAX 512

struct guard_policy_config {
    const char *host; /* the name in lower case, without a port */
    /* Header fields that replace the request's own; values as in guard/value.h. */
    const char *const *header_names, *const *header_values;
    size_t n_headers;
    const char *user; /* the value for Authorization is the password of this user; NULL: it is not */
    /* NULL: the fields are always set. Otherwise a field is replaced only where it holds this text, and a request with
     * the text in another place is refused. */
    const char *placeholder;
    const char *const *allow, *const *deny; /* as in guard/rules.h */
    size_t n_allow, n_deny;
    const char *rate; /* as in guard/rules.h; NULL: no limit */
};

struct guard_policy;

/* Copies the configuration, and does not read secrets yet. NULL: *rc is HT_EINVAL or HT_ENOMEM, and *err says why,
 * without any value. */
struct guard_policy *guard_policy_create(const struct guard_policy_config *cfg, int *rc,
                                         struct ht_errmsg *err) HT_MUST_USE;
/* Wipes the secrets. Clears the pointer. NULL is ignored. */
void guard_policy_destroy(struct guard_policy **p);

const char *guard_policy_host(const struct guard_policy *p);
/* True when a field has a secret. */
bool guard_policy_has_secrets(const struct guard_policy *p);
/* guard_value_run_in() for all fields. */
void guard_policy_run_in(struct guard_policy *p, struct io_loop *loop, void (*ready)(void *ctx, const char *why),
                         void *ctx);
/* guard_value_load() for all fields: reads secrets that were not read yet or have changed. 0. HT_EAGAIN: a command has
 * not answered yet, and ready() will be called. Another negative error: *err says why. With `run` false no command is
 * started. */
int guard_policy_load(struct guard_policy *p, uint64_t now_ms, bool run, struct ht_errmsg *err) HT_MUST_USE;

struct guard_request {
    struct ht_slice method, target;
    const struct wire_header *headers; /* names in lower case */
    size_t n_headers;
    uint16_t port; /* the port that it was sent to */
    bool secure;   /* the service is reached by TLS, or is on this machine */
};

/* The possible decisions (spec/audit.yaml). */
enum guard_reason {
#define X(name, word, status, text) GUARD_##name,
    AUDIT_DECISIONS(X)
#undef X
};

const char *guard_reason_word(enum guard_reason r);
uint16_t guard_reason_status(enum guard_reason r);
/* The text of a refusal, for the program in the container. */
const char *guard_reason_text(enum guard_reason r);

struct guard_decision {
    enum guard_reason reason;
    const char *rule;     /* the text of the rule that decided; NULL: none. Valid as long as the policy */
    uint32_t retry_after; /* of GUARD_RATE: seconds */
    bool injects;         /* the request gets a secret */
};

/* Checks a request, and counts it against the rate if it is allowed. Does not change the request. */
void guard_policy_check(struct guard_policy *p, const struct guard_request *r, uint64_t now_ms,
                        struct guard_decision *out);

/* True when both policies have a placeholder, and one of the texts contains the other. */
bool guard_policy_same_placeholder(const struct guard_policy *a, const struct guard_policy *b);
/* True when the request contains the placeholder of `p` anywhere. */
bool guard_policy_is_mentioned(const struct guard_policy *p, const struct guard_request *r);

/*
 * Writes the header fields of an allowed request, with the policy's fields, to `out`. guard_policy_load() must have
 * returned 0 before. The fields borrow from the request, and from the policy until its next load. Returns their number,
 * or HT_ESPACE: there are more than `cap`.
 */
ssize_t guard_policy_headers(const struct guard_policy *p, const struct guard_request *r, struct wire_header *out,
                             size_t cap);

/* True when `s` contains a secret of `p`. */
bool guard_policy_is_secret(const struct guard_policy *p, struct ht_slice s);
/* The service has refused the secrets: commands run again before the next request. */
void guard_policy_refused(struct guard_policy *p);

#endif
