/*
 * What a driver does to the requests for one host: which of them pass, and which header fields they get. Pure, but for
 * the files, variables and commands that secrets come from.
 *
 * First a request is checked, then it gets what it needs: one that does not pass is never near a secret. A secret
 * belongs to one host: whose name is asked for decides, and Host has to agree with it.
 */
#ifndef HT_GUARD_POLICY_H
#define HT_GUARD_POLICY_H

#include "audit_gen.h"
#include "base/base.h"
#include "base/err.h"
#include "io/io.h"
#include "wire_gen.h"

#include <sys/types.h>

#define GUARD_HEADERS_MAX 16    /* that one policy sets */
#define GUARD_PLACEHOLDER_MIN 8 /* characters: a shorter one is found where nobody meant it */
#define GUARD_PLACEHOLDER_MAX 512

struct guard_policy_config {
    const char *host; /* the name in lower case, without a port */
    /* Header fields that a request gets instead of its own; values as in guard/value.h. */
    const char *const *header_names, *const *header_values;
    size_t n_headers;
    const char *user; /* NULL, or the value of Authorization is the password of this user */
    const char *
        placeholder; /* NULL: always. Else only a field that holds this text is replaced, and it is refused elsewhere */
    const char *const *allow, *const *deny; /* as in guard/rules.h */
    size_t n_allow, n_deny;
    const char *rate; /* NULL: any */
};

struct guard_policy;

/* All of it is copied. NULL: *err says what is wrong, and never a value; HT_EINVAL or HT_ENOMEM in *rc. Secrets are not
 * read yet. */
struct guard_policy *guard_policy_create(const struct guard_policy_config *cfg, int *rc,
                                         struct ht_errmsg *err) HT_MUST_USE;
void guard_policy_destroy(struct guard_policy **p);

const char *guard_policy_host(const struct guard_policy *p);
/* It has a secret to give. */
bool guard_policy_has_secrets(const struct guard_policy *p);
/* As guard_value_run_in(). */
void guard_policy_run_in(struct guard_policy *p, struct io_loop *loop, void (*ready)(void *ctx, const char *why),
                         void *ctx);
/* Reads the secrets that are not read yet or have changed. 0; HT_EAGAIN: a command is awaited, and ready() comes (with
 * `run`; without it no command is started); another negative error with *err. */
int guard_policy_load(struct guard_policy *p, uint64_t now_ms, bool run, struct ht_errmsg *err) HT_MUST_USE;

struct guard_request {
    struct ht_slice method, target;
    const struct wire_header *headers; /* names in lower case */
    size_t n_headers;
    uint16_t port; /* that it was sent to */
    bool secure;   /* what answers it is reached by TLS, or is on this machine */
};

/* What may be decided (spec/audit.yaml). */
enum guard_reason {
#define X(name, word, status, text) GUARD_##name,
    AUDIT_DECISIONS(X)
#undef X
};

const char *guard_reason_word(enum guard_reason r);
uint16_t guard_reason_status(enum guard_reason r);
/* For whoever reads the refusal in the container. */
const char *guard_reason_text(enum guard_reason r);

struct guard_decision {
    enum guard_reason reason;
    const char *rule;     /* the text of the one that decided; NULL: none. Lives as long as the policy */
    uint32_t retry_after; /* seconds, of GUARD_RATE */
    bool injects;         /* it gets a secret */
};

/* Checks a request, and counts one that passes. Nothing of it is changed. */
void guard_policy_check(struct guard_policy *p, const struct guard_request *r, uint64_t now_ms,
                        struct guard_decision *out);

/* Both have one, and it is the same text, or a part of it. */
bool guard_policy_same_placeholder(const struct guard_policy *a, const struct guard_policy *b);
/* The placeholder of `p` stands somewhere in the request. */
bool guard_policy_is_mentioned(const struct guard_policy *p, const struct guard_request *r);

/*
 * The header fields of a request that has passed, with what it gets; guard_policy_load() comes before. They borrow from
 * the request and from the policy, until its next load. Returns how many there are, at most `cap`; HT_ESPACE.
 */
ssize_t guard_policy_headers(const struct guard_policy *p, const struct guard_request *r, struct wire_header *out,
                             size_t cap);

/* A secret of `p` is part of `s`. */
bool guard_policy_is_secret(const struct guard_policy *p, struct ht_slice s);
/* The service has refused the secrets: commands are run again before the next request. */
void guard_policy_refused(struct guard_policy *p);

#endif
