/*
 * lego, which asks an ACME server for certificates, one order at a time. It writes answers to challenges into a folder,
 * and this hands them out at a Unix socket, where HAProxy sends the ACME server to. No other room includes it.
 */
#ifndef HT_EDGE_ACME_H
#define HT_EDGE_ACME_H

#include "edge/acme_plan.h"
#include "edge/edge_priv.h"

struct edge_acme;

/* Finds lego and checks what it is given. Copies nothing: `cfg` and `folder` must stay. HT_EINVAL, HT_EIO, HT_EACCESS
 * or HT_ENOMEM with *err. */
int edge_acme_start(struct edge_acme **out, struct io_loop *loop, const char *folder,
                    const struct edge_acme_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* Ends lego; done() is not called. Clears the pointer. NULL is ignored. */
void edge_acme_stop(struct edge_acme **a);

/* `pem` is the certificate with its chain and key, cleaned; or .p is NULL, and `why` says why there is none. */
typedef void edge_acme_done(void *ctx, struct ht_slice pem, const char *why);
/* Asks for a certificate for these names, the first of which it is called by; `dns`: by records in DNS. done() is never
 * called before this returns. Not while another order runs. HT_OK, or an error with *err. */
int edge_acme_order(struct edge_acme *a, const char *const names[], size_t n, bool dns, edge_acme_done *done, void *ctx,
                    struct ht_errmsg *err) HT_MUST_USE;
/* Kills lego: done() comes soon, without a certificate. */
void edge_acme_kill(struct edge_acme *a);

#endif
