/*
 * When certificates are asked for, and what lego's words mean. Pure: times are handed in, in milliseconds since 1970.
 * No other room includes it.
 */
#ifndef HT_EDGE_ACME_PLAN_H
#define HT_EDGE_ACME_PLAN_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

#define ACME_DAY_MS (INT64_C(86400) * 1000)

/* A number that is the same for a name whenever it is asked for, so that what is due at the same time is spread. */
uint32_t acme_spread(const char *name);
/* When a certificate is renewed: when a third of its time is left, and up to a twentieth of it sooner. */
int64_t acme_renew_at(int64_t begins, int64_t ends, uint32_t spread);
/* How long to wait after so many failures in a row, 1 or more: `base`, which doubles up to a day, and varies by a
 * quarter. */
uint64_t acme_wait_ms(uint64_t base, unsigned failures, uint32_t spread);

/* ---- orders of the last day ---- */

struct acme_ledger {
    int64_t *at; /* oldest first */
    size_t n, cap;
};
/* Forgets what is older than a day, or lies in the future by more than that, as after the clock was set. The number
 * that is left. */
size_t acme_ledger_count(struct acme_ledger *l, int64_t now);
int acme_ledger_add(struct acme_ledger *l, int64_t now) HT_MUST_USE; /* HT_ENOMEM */
/* When there are fewer than `most` again; `now` if there are already. */
int64_t acme_ledger_free_at(struct acme_ledger *l, int64_t now, size_t most);
/* As JSON, and from it. HT_ENOMEM; HT_EPROTO: it is none. */
int acme_ledger_put(const struct acme_ledger *l, struct ht_buf *out) HT_MUST_USE;
int acme_ledger_read(struct acme_ledger *l, struct ht_slice json) HT_MUST_USE;
void acme_ledger_free(struct acme_ledger *l);

/* ---- what has become of a domain's attempts ---- */

#define ACME_ERROR 400 /* bytes of a reason with its NUL */

struct acme_record {
    unsigned failures; /* in a row */
    bool running;      /* lego was started, and its end is not known */
    int64_t next;      /* not before; 0: at once */
    char error[ACME_ERROR];
};
int acme_record_put(const struct acme_record *r, struct ht_buf *out) HT_MUST_USE; /* HT_ENOMEM */
int acme_record_read(struct acme_record *r, struct ht_slice json) HT_MUST_USE;    /* HT_EPROTO: it is none */

/* ---- what lego says ---- */

/* Lines NAME=VALUE of an environment file, each "NAME=VALUE" with a NUL. */
struct acme_env {
    char *text;
    const char **vars; /* the last one is NULL */
    size_t n;
};
/* Reads the file's text. Empty lines and those that begin with # are none. HT_EINVAL with *err, which names the line
 * and quotes none of it; HT_ENOMEM. */
int acme_env_read(struct acme_env *out, struct ht_slice text, struct ht_errmsg *err) HT_MUST_USE;
void acme_env_free(struct acme_env *e); /* wipes it */

/* Writes what a line of lego says, for people: without the time in front, with what controls a terminal escaped; values
 * of `env`, which may be NULL, and long random texts become ***. False: it says nothing. */
bool acme_reason(struct ht_slice line, const struct acme_env *env, char out[ACME_ERROR]);

/* ---- PEM ---- */

#define ACME_PEM_MAX                                                                                                   \
    11500u /* bytes of a certificate with its chain and key: HAProxy takes that much through its socket */

/* Appends the blocks of certificates and unencrypted keys of a text, line by line as they are, and nothing else: no
 * blank line, for one ends what is said to HAProxy. HT_EINVAL with *err, which quotes nothing: another block, a line
 * that none has, or no block at all. HT_ENOMEM. */
int acme_pem_clean(struct ht_slice text, struct ht_buf *out, struct ht_errmsg *err) HT_MUST_USE;

#endif
