/* The CONNECT proxy (relay/connect.h): sets it up from the options, and tells it which users may use it. */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>

struct rules {
    struct relay_rule *all;
    size_t n, cap;
};

/* Appends the rules of a comma list. */
static int add_rules(struct rules *r, const char *option, const char *text, struct ht_errmsg *err) {
    struct ht_errmsg why;
    while (text) {
        char one[RELAY_HOST_MAX + 16];
        struct ht_slice item = ht_list_item(&text);
        if (item.n >= sizeof one)
            return ht_fail(err, HT_EINVAL, "%s: \"%.80s...\" is too long for a destination", option, item.p);
        memcpy(one, item.p, item.n);
        one[item.n] = '\0';
        if (r->n == r->cap) {
            size_t cap = r->cap ? 2 * r->cap : 8;
            void *more = ht_realloc(r->all, cap * sizeof *r->all);
            if (!more)
                return ht_fail(err, HT_ENOMEM, "out of memory");
            r->all = more;
            r->cap = cap;
        }
        if (relay_rule_parse(&r->all[r->n], one, &why))
            return ht_fail(err, HT_EINVAL, "%s: %s", option, why.text);
        r->n++;
    }
    return HT_OK;
}

static int parse_rules(struct kit *k, struct relay_policy *policy, struct ht_errmsg *err) {
    const struct opt_serve *o = k->opt;
    struct rules r = {.all = NULL};
    int rc = HT_OK;
    for (size_t i = 0; i < o->n_connect_allow && rc == HT_OK; i++)
        rc = add_rules(&r, "--connect-allow", o->connect_allow[i], err);
    policy->n_allow = r.n;
    for (size_t i = 0; i < o->n_connect_deny && rc == HT_OK; i++)
        rc = add_rules(&r, "--connect-deny", o->connect_deny[i], err);
    policy->n_deny = r.n - policy->n_allow;
    k->rules = r.all;
    policy->allow = r.all;
    policy->deny = r.all ? r.all + policy->n_allow : NULL;
    return rc;
}

static bool knows(void *ctx, struct ht_slice token, struct relay_known *out) {
    const struct kit_pass *pass = kit_pass_of_token(ctx, token);
    *out = (struct relay_known){pass ? pass->user : NULL, pass};
    return pass != NULL;
}

/*
 * On a loopback address every program of this machine may use the names that drivers have registered. With several
 * users each has names of its own, so a client must show a token there too, to say whose names it means.
 */
static bool wants_token(const struct kit *k, const struct io_addr *at) {
    return k->has_token && (k->opt->users || !io_addr_is_loopback(at));
}

static bool may_come(void *ctx, const struct io_addr *peer) { return base_peer_trusted(ctx, peer); }

static void told(void *ctx, const struct relay_connect_told *what) { event_proxy(ctx, what); }

static void client_left(void *ctx) {
    struct kit *k = ctx;
    if (k->draining)
        kit_reap_later(k);
}

int way_out_open(struct kit *k, struct ht_errmsg *err) {
    const struct opt_serve *o = k->opt;
    const struct opt_addr *at = &o->connect_proxy;
    if (!o->set_connect_proxy) {
        if (o->n_connect_allow || o->n_connect_deny || o->set_connect_default)
            ht_warn("kit", "--connect-default, --connect-allow and --connect-deny have no effect without a proxy; "
                           "--connect-proxy 127.0.0.1:9090 opens one");
        return HT_OK;
    }
    const char *host = strcmp(at->host, "localhost") == 0 || !at->host[0] ? "127.0.0.1" : at->host;
    struct relay_connect_config cfg = {
        .policy = {.pass = o->connect_default == OPT_CONNECT_DEFAULT_PASS,
                   .own_ports = {io_addr_port(&k->listen_addr)}},
        .dial_timeout_ms = o->connect_dial_timeout_ms,
        .idle_timeout_ms = o->connect_idle_timeout_ms,
        .knows = knows,
        .nobody = &k->one_user,
        .may_come = may_come,
        .told = told,
        .left = client_left,
        .ctx = k,
    };
    if (io_addr_parse(&cfg.addr, host, at->port) < 0)
        return ht_fail(err, HT_EINVAL, "--connect-proxy %s: give a numeric address, such as 127.0.0.1:9090", at->text);
    io_inherited_port(k->loop, "proxy", &cfg.addr);
    int rc = kit_check_address(k, &cfg.addr, at->text, err);
    if (rc == HT_OK)
        rc = parse_rules(k, &cfg.policy, err);
    if (rc < 0)
        return rc;
    cfg.wants_token = wants_token(k, &cfg.addr);
    rc = relay_connect_open(k->table, &cfg, &k->connect, err);
    if (rc < 0)
        return rc;
    char text[IO_ADDR_TEXT];
    struct io_addr got;
    relay_connect_addr(k->connect, &got);
    ht_info("kit", "CONNECT proxy on http://%s%s", io_addr_text(&got, text), cfg.wants_token ? ", with the token" : "");
    return HT_OK;
}

bool way_out_address(const struct kit *k, char out[IO_ADDR_TEXT], bool *needs) {
    struct io_addr at;
    if (!k->connect)
        return false;
    relay_connect_addr(k->connect, &at);
    io_addr_text(&at, out);
    *needs = wants_token(k, &at);
    return true;
}

static bool is_gone(const struct relay_known *who) {
    const struct kit_user *user = who->user;
    return who->pass ? kit_pass_gone(who->pass) : user && user->lost_token;
}

void way_out_tokens_changed(struct kit *k) {
    struct io_addr at;
    if (!k->connect)
        return;
    relay_connect_addr(k->connect, &at);
    if (wants_token(k, &at))
        relay_connect_cut(k->connect, is_gone, "its token is no longer valid");
}

void way_out_close(struct kit *k) {
    relay_connect_close(&k->connect);
    ht_free(k->rules);
    k->rules = NULL;
}
