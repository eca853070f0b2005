#include "edge/permissions.h"

#include "base/log.h"
#include "base/mem.h"
#include "edge/gate.h"
#include "edge/login.h"

#define AGAIN_MS 200 /* until what memory was missing for is tried again */

struct edge_permissions {
    struct io_loop *loop;
    struct edge_state *state;
    struct edge_policies *policies;
    struct edge_hooktable *hooks;
    struct edge_gate *gate;
    struct edge_login *login;
    struct io_listener *listener, *login_listener;
    struct edge_observer observer;
    struct io_timer again;
};

static const enum edge_kind kind_of[EDGE_OWNERS] = {EDGE_PROJECT, EDGE_CONTAINER};

static void apply(struct edge_permissions *p, enum edge_owner owner, const char *id, const struct edge_doc *doc) {
    struct ht_slice text = edge_doc_part(doc, EDGE_PERMISSIONS);
    struct ht_errmsg err;
    if (!text.p) {
        edge_policies_remove(p->policies, owner, id);
        return;
    }
    int rc = edge_policies_set(p->policies, owner, id, text, &err);
    if (rc == HT_EINVAL)
        ht_error("edge", "the permissions of %s %s let nobody in: %s", edge_kind_names[kind_of[owner]], id, err.text);
    else if (rc < 0)
        io_timer_set(&p->again, AGAIN_MS);
}

static void changed(struct edge_observer *o, enum edge_kind kind, const char *id, const struct edge_doc *doc) {
    struct edge_permissions *p = ht_container_of(o, struct edge_permissions, observer);
    for (int owner = 0; owner < EDGE_OWNERS; owner++)
        if (kind_of[owner] == kind)
            apply(p, owner, id, doc);
}

struct loading {
    struct edge_permissions *p;
    enum edge_owner owner;
};

static int load_one(void *ctx, const struct edge_doc *doc) {
    const struct loading *l = ctx;
    apply(l->p, l->owner, edge_doc_id(doc), doc);
    return 0;
}

static void load(struct edge_permissions *p) {
    for (int owner = 0; owner < EDGE_OWNERS; owner++)
        (void)edge_state_each(p->state, kind_of[owner], load_one, &(struct loading){p, owner});
}

static void on_again(struct io_timer *t) { load(ht_container_of(t, struct edge_permissions, again)); }

static void accepted(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    const struct edge_permissions *p = ctx;
    (void)peer;
    edge_gate_accept(p->gate, conn);
}

static void accepted_login(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    const struct edge_permissions *p = ctx;
    (void)peer;
    edge_login_accept(p->login, conn);
}

static int listen_for(struct edge_permissions *p, const char *folder, struct ht_errmsg *err) {
    static const struct io_listener_ops gate = {.accepted = accepted}, login = {.accepted = accepted_login};
    int rc = edge_socket_listen(p->loop, folder, EDGE_GATE_SOCKET, EDGE_SOCKET_FOR_ENGINE, &gate, p, &p->listener, err);
    return rc == HT_OK ? edge_socket_listen(p->loop, folder, HAPROXY_LOGIN_SOCKET, EDGE_SOCKET_FOR_ENGINE, &login, p,
                                            &p->login_listener, err)
                       : rc;
}

int edge_permissions_start(struct edge_permissions **out, struct io_loop *loop, const char *folder,
                           struct edge_state *state, struct edge_maps *maps, struct ht_errmsg *err) {
    struct edge_permissions *p = ht_calloc(1, sizeof *p);
    *out = NULL;
    if (!p)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    p->loop = loop;
    p->state = state;
    p->observer.changed = changed;
    io_timer_init(loop, &p->again, on_again);
    p->policies = edge_policies_create(maps);
    p->hooks = p->policies ? edge_hooktable_create(maps) : NULL;
    p->gate = p->hooks ? edge_gate_create(loop, p->policies, p->hooks) : NULL;
    p->login = p->gate ? edge_login_create(&(struct edge_login_config){.loop = loop,
                                                                       .policies = p->policies,
                                                                       .login = edge_gate_logins(p->gate),
                                                                       .tickets = edge_gate_tickets(p->gate)})
                       : NULL;
    int rc = p->login ? listen_for(p, folder, err) : ht_fail(err, HT_ENOMEM, "out of memory");
    if (rc < 0) {
        edge_permissions_stop(&p);
        return rc;
    }
    load(p);
    edge_state_watch(state, &p->observer);
    edge_hooktable_follow(p->hooks, loop, state);
    *out = p;
    return HT_OK;
}

void edge_permissions_stop(struct edge_permissions **pp) {
    struct edge_permissions *p = *pp;
    *pp = NULL;
    if (!p)
        return;
    edge_state_unwatch(p->state, &p->observer);
    io_timer_stop(&p->again);
    io_listener_close(&p->listener);
    io_listener_close(&p->login_listener);
    edge_login_destroy(&p->login); /* before what it shares with the gate */
    edge_gate_destroy(&p->gate);
    edge_hooktable_destroy(&p->hooks);
    edge_policies_destroy(&p->policies);
    ht_free(p);
}
