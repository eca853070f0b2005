/*
 * The public addresses (--public, --domain). Each one listens, reads a PROXY header where one is due, ends TLS, and
 * hands the connection to its door of the relay's front (relay/front.h), or to redirect.c.
 */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "kit/bounds.h"
#include "log_gen.h"
#include "relay/front.h"
#include "wire/name.h"

#include <stdio.h>

struct kit_public {
    struct ht_list node; /* in kit.publics */
    struct kit *kit;
    struct relay_front_door *door;
    struct io_listener *listener;
    struct io_addr addr; /* with the real port */
    unsigned number;     /* from 0, in the order of the options */
    bool https;
    bool redirects; /* plain HTTP beside https: every request is redirected */
};

/* A connection whose TLS handshake is under way. It holds a permit of the door. */
struct public_guest {
    struct crowd_member member;
    struct kit_public *p;
    struct kit_handshake handshake;
    struct io_addr peer;
    char text[IO_ADDR_TEXT];
};

static const char wants_text[] =
    "give a numeric address, such as 0.0.0.0:443, https://0.0.0.0:443 or http://0.0.0.0:80";

/* ---- connections ---- */

static bool trusted(void *ctx, const struct io_addr *peer) { return base_peer_is_proxy(ctx, peer); }

static void guest_free(struct public_guest *g) {
    crowd_leave(&g->p->kit->guests, &g->member);
    ht_free(g);
}

static void guest_drop(struct public_guest *g) {
    kit_handshake_cancel(&g->handshake);
    relay_front_permit_back(g->p->door);
    guest_free(g);
}

static void handshake_done(struct kit_handshake *h, struct io_conn *conn) {
    struct public_guest *g = ht_container_of(h, struct public_guest, handshake);
    if (!conn) {
        guest_drop(g);
        return;
    }
    struct relay_front_door *door = g->p->door;
    struct io_addr peer = g->peer;
    guest_free(g);
    relay_front_visit(door, conn, &peer);
}

/* When there are too many handshakes, the oldest of the address with the most of them is cut (hardening case 28). */
static void make_room(struct kit *k) {
    if (k->guests.n < KIT_BOUND_HANDSHAKES)
        return;
    struct public_guest *gives = ht_container_of(crowd_heaviest(&k->guests), struct public_guest, member);
    k->metrics.tls_handshake_failures_total[HT_METRIC_TLS_FAILURE_CROWDED]++;
    ht_log_stranger(HT_LOG_INFO, "kit", HT_LOG_FIELDS(log_peer(gives->text), log_count(gives->member.same)),
                    "a TLS handshake was cut to make room for a new one");
    guest_drop(gives);
}

/* Starts the handshake of a connection with a permit, and owns both. */
static void guest_begin(struct kit_public *p, struct io_conn *conn, const struct io_addr *peer) {
    struct public_guest *g = ht_calloc(1, sizeof *g);
    if (!g) {
        io_conn_close(&conn);
        relay_front_permit_back(p->door);
        return;
    }
    make_room(p->kit);
    g->p = p;
    g->peer = *peer;
    io_addr_text(peer, g->text);
    crowd_join(&p->kit->guests, &g->member, crowd_by_address(peer));
    g->handshake = (struct kit_handshake){.kit = p->kit, .peer = g->text, .done = handshake_done};
    if (!kit_handshake_begin(&g->handshake, conn))
        guest_drop(g);
}

static void guests_drop(struct kit *k) {
    while (!ht_list_empty(&k->guests.members))
        guest_drop(HT_LIST_ENTRY(k->guests.members.next, struct public_guest, member.node));
}

/* Called once the peer's address is known, perhaps from a PROXY header. */
static void let_in(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    struct kit_public *p = ctx;
    if (p->https)
        guest_begin(p, conn, peer);
    else if (p->redirects)
        redirect_begin(p->kit, p->door, conn, peer);
    else
        relay_front_visit(p->door, conn, peer);
}

static void permit_back(void *ctx) { relay_front_permit_back(((struct kit_public *)ctx)->door); }

static const struct proxied_ops proxied = {.go = let_in, .gone = permit_back};

static void accepted(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    struct kit_public *p = ctx;
    if (!relay_front_permit(p->door, conn, peer))
        return;
    if (proxied_peer(p->kit, peer))
        proxied_begin(p->kit, conn, peer, &proxied, p);
    else
        let_in(p, conn, peer);
}

static void accept_failed(void *ctx, int err) { relay_front_accept_failed(((struct kit_public *)ctx)->door, err); }

static const struct io_listener_ops listener_ops = {.accepted = accepted, .accept_failed = accept_failed};

/* ---- opening ---- */

static void public_free(struct kit_public *p) {
    io_listener_close(&p->listener);
    proxied_cancel(p->kit, p);
    ht_list_remove(&p->node);
    ht_free(p);
}

/* Reads "[http://|https://][host]:port". Without a scheme it is https if the kit has a certificate. */
static int read_address(struct kit_public *p, const char *text, struct ht_errmsg *err) {
    static const char http[] = "http://", https[] = "https://";
    const char *at = text;
    p->https = p->kit->tls != NULL;
    if (strncmp(at, https, sizeof https - 1) == 0) {
        if (!p->https)
            return ht_fail(err, HT_EINVAL,
                           "--public %s: there is no certificate for https: give --tls-cert, or --tls-self-signed to "
                           "try it out",
                           text);
        at += sizeof https - 1;
    } else if (strncmp(at, http, sizeof http - 1) == 0) {
        p->https = false;
        at += sizeof http - 1;
    }
    struct ht_errmsg why;
    if (io_addr_parse_hostport(&p->addr, at, &why))
        return ht_fail(err, HT_EINVAL, "--public %s: %s", text, wants_text);
    return HT_OK;
}

/* What the address is called when it is handed over. */
static const char *role_of(unsigned number, char out[IO_ROLE + 1]) {
    snprintf(out, IO_ROLE + 1, "public %u", number);
    return out;
}

static int open_one(struct kit *k, const char *text, struct ht_errmsg *err) {
    char role[IO_ROLE + 1];
    struct kit_public *p = ht_calloc(1, sizeof *p);
    if (!p)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    p->kit = k;
    HT_LIST_FOR (it, &k->publics)
        p->number++;
    ht_list_init(&p->node);
    ht_list_push_back(&k->publics, &p->node);
    int rc = read_address(p, text, err);
    struct ht_errmsg why = {""};
    if (rc == HT_OK) {
        io_inherited_port(k->loop, role_of(p->number, role), &p->addr);
        rc = io_listen(k->loop, &p->addr, &listener_ops, p, &p->listener, &why);
        if (rc)
            ht_fail(err, rc, "--public %s: %s", text, why.text[0] ? why.text : ht_err_text(rc));
    }
    if (rc == HT_OK)
        io_listener_local(p->listener, &p->addr);
    if (rc)
        public_free(p);
    return rc;
}

/* Called once all addresses are known, since an http address beside an https one only redirects. */
static int open_doors(struct kit *k, struct ht_errmsg *err) {
    bool https = false;
    int rc = HT_OK;
    HT_LIST_FOR (it, &k->publics) {
        const struct kit_public *p = HT_LIST_ENTRY(it, struct kit_public, node);
        if (p->https && !https)
            k->https_port = io_addr_port(&p->addr);
        https = https || p->https;
    }
    HT_LIST_FOR (it, &k->publics) {
        struct kit_public *p = HT_LIST_ENTRY(it, struct kit_public, node);
        p->redirects = https && !p->https;
        if (rc == HT_OK)
            rc = relay_front_door_add(relay_table_front(k->table), &p->addr, p->https, p->redirects, &p->door);
    }
    return rc == HT_OK ? redirect_open(k, err) : ht_fail(err, rc, "out of memory");
}

/* Opens each address of a comma list. */
static int open_all(struct kit *k, const char *text, struct ht_errmsg *err) {
    while (text) {
        char one[IO_ADDR_TEXT + 16];
        struct ht_slice item = ht_list_item(&text);
        if (item.n >= sizeof one)
            return ht_fail(err, HT_EINVAL, "--public %.80s: %s", item.p, wants_text);
        memcpy(one, item.p, item.n);
        one[item.n] = '\0';
        int rc = open_one(k, one, err);
        if (rc)
            return rc;
    }
    return HT_OK;
}

const char *public_pattern(const struct opt_serve *o) {
    const char *p = o->public_url_pattern;
    return p && strstr(p, RELAY_HOST_HOLE) ? p : NULL;
}

static int open_front(struct kit *k, struct ht_errmsg *err) {
    const struct opt_serve *o = k->opt;
    char domain[WIRE_HOST_ROOM];
    struct ht_errmsg why;
    if (wire_domain_read(domain, ht_slice_str(o->domain), 1, &why))
        return ht_fail(err, HT_EINVAL, "--domain %s", why.text);
    if (strlen(domain) > RELAY_DOMAIN_MAX)
        return ht_fail(err, HT_EINVAL, "--domain has at most %u characters, so that names fit before it",
                       RELAY_DOMAIN_MAX);
    const char *pattern = public_pattern(o);
    if (pattern && strlen(pattern) > RELAY_PATTERN_MAX)
        return ht_fail(err, HT_EINVAL, "--public-url-pattern with " RELAY_HOST_HOLE " has at most %d characters",
                       RELAY_PATTERN_MAX);
    struct relay_front_config cfg = {
        .domain = domain, .url_pattern = pattern, .trusted = trusted, .own_host = base_client_adopt, .ctx = k};
    return relay_front_open(k->table, &cfg) ? ht_fail(err, HT_ENOMEM, "out of memory") : HT_OK;
}

int public_open(struct kit *k, struct ht_errmsg *err) {
    const struct opt_serve *o = k->opt;
    if (o->n_public == 0) {
        if (o->acme_webroot)
            return ht_fail(err, HT_EINVAL,
                           "--acme-webroot goes with --public http://..., where the authority asks for its files");
        if (o->domain || !o->ports)
            return ht_fail(err, HT_EINVAL, "%s goes with --public, the address that visitors come to",
                           o->domain ? "--domain" : "--no-ports");
        if (public_pattern(o))
            return ht_fail(err, HT_EINVAL,
                           "--public-url-pattern: " RELAY_HOST_HOLE " goes with --public, and {port} without");
        return HT_OK;
    }
    if (!o->domain)
        return ht_fail(err, HT_EINVAL,
                       "--public needs --domain, the domain whose hosts lead there, such as tunnel.localhost");
    int rc = open_front(k, err);
    for (size_t i = 0; rc == HT_OK && i < o->n_public; i++)
        rc = open_all(k, o->public[i], err);
    if (rc == HT_OK)
        rc = open_doors(k, err);
    HT_LIST_FOR (it, &k->publics) {
        const struct kit_public *p = HT_LIST_ENTRY(it, struct kit_public, node);
        char text[IO_ADDR_TEXT];
        if (rc == HT_OK && p->redirects)
            ht_info("kit", "public on http://%s, which redirects to https", io_addr_text(&p->addr, text));
        else if (rc == HT_OK)
            ht_info("kit", "public on %s://%s, for *.%s", p->https ? "https" : "http", io_addr_text(&p->addr, text),
                    o->domain);
    }
    return rc;
}

/* ---- the end ---- */

void public_drain(struct kit *k) {
    guests_drop(k);
    redirect_close(k);
    if (relay_table_front(k->table))
        relay_front_drain(relay_table_front(k->table));
}

bool kit_public_addr(const struct kit *k, struct io_addr *out) {
    if (ht_list_empty(&k->publics))
        return false;
    *out = HT_LIST_ENTRY(k->publics.next, struct kit_public, node)->addr;
    return true;
}

void public_each_listener(struct kit *k, void (*each)(void *ctx, const char *role, struct io_listener *l), void *ctx) {
    char role[IO_ROLE + 1];
    HT_LIST_FOR (it, &k->publics) {
        struct kit_public *p = HT_LIST_ENTRY(it, struct kit_public, node);
        if (p->listener)
            each(ctx, role_of(p->number, role), p->listener);
    }
}

void public_close_listeners(struct kit *k) {
    HT_LIST_FOR (it, &k->publics)
        io_listener_close(&HT_LIST_ENTRY(it, struct kit_public, node)->listener);
}

void public_close(struct kit *k) {
    guests_drop(k);
    redirect_close(k);
    while (!ht_list_empty(&k->publics))
        public_free(HT_LIST_ENTRY(k->publics.next, struct kit_public, node));
}
