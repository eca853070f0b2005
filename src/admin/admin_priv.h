/* What the files of admin/ share. */
#ifndef HT_ADMIN_ADMIN_PRIV_H
#define HT_ADMIN_ADMIN_PRIV_H

#include "admin/admin.h"
#include "wire_gen.h"

/* A snapshot, and memory for the structures that the generated writers need for its sessions and bindings. */
struct admin_lists {
    struct admin_snapshot snap;
    void *of_sessions, *of_bindings;
    struct admin_when {
        char text[32];
    } * until, *since; /* of each session, and of each binding */
};

/* Takes a snapshot. `l` must be zero-initialised, except the fields that say what the snapshot leaves out. The caller
 * frees it in each case. 0 or HT_ENOMEM. */
int admin_lists_take(struct admin *a, const struct admin_viewer *viewer, struct admin_lists *l, size_t session_item,
                     size_t binding_item) HT_MUST_USE;
void admin_lists_free(struct admin_lists *l);
/* When the parked session number `i` ends, as text; empty for one that is not parked. */
struct ht_slice admin_until_of(const struct admin_lists *l, size_t i);
struct ht_slice admin_label_of(const struct admin_snap_binding *b);

/* ---- status.c ---- */

int admin_me(void *ctx, const struct admin_request *req, struct admin_response *res);
int admin_status(void *ctx, const struct admin_request *req, struct admin_response *res);

/* ---- qr.c ---- */

/* Begins an answer, which can have ADMIN_QR_MAX codes. */
void admin_qr_begin(struct admin *a);
/* The QR code of a URL; valid until the answer is written. NULL: the answer has ADMIN_QR_MAX codes, the URL is too long
 * for a code, or there is no memory. */
const struct admin_qr *admin_qr_of(struct admin *a, const char *url);

#endif
