/* Checks the request rules of an item of reach one by one, so that each mistake is reported at its own place. */
#include "cli/config.h"

#include "base/mem.h"

struct cli_config_policy *cli_config_policy_add(struct cli_config *c) {
    struct cli_config_policy *p = ht_calloc(1, sizeof *p);
    if (p) {
        p->next = c->policies;
        c->policies = p;
    }
    return p;
}

void cli_config_policies_free(struct cli_config *c) {
    while (c->policies) {
        struct cli_config_policy *p = c->policies;
        c->policies = p->next;
        ht_free(p);
    }
}

/* Makes a policy to try it out. 0, HT_ENOMEM, or HT_EINVAL: a problem was added at `at`. */
static int try_it(struct cli_config *c, const struct guard_policy_config *cfg, struct opt_mark at) {
    struct ht_errmsg err;
    int rc;
    struct guard_policy *p = guard_policy_create(cfg, &rc, &err);
    if (!p && rc == HT_EINVAL)
        cli_config_problem(c, at, "%s", err.text);
    guard_policy_destroy(&p);
    return rc;
}

/* Checks each field together with those before it, which may have the same name. */
static int check_fields(struct cli_config *c, const struct cli_config_policy *p) {
    int bad = HT_OK;
    for (size_t i = 0; i < p->n_names; i++) {
        size_t from = bad ? i : 0;
        struct guard_policy_config cfg = {.host = "name",
                                          .header_names = p->names + from,
                                          .header_values = p->values + from,
                                          .n_headers = i + 1 - from};
        int rc = try_it(c, &cfg, p->name_at[i]);
        if (rc == HT_ENOMEM)
            return rc;
        bad = rc < 0 ? rc : bad;
    }
    return bad;
}

static int check_rules(struct cli_config *c, const char *key, const struct cli_config_rules *rules) {
    for (size_t i = 0; i < rules->n; i++) {
        struct guard_rule rule;
        struct ht_errmsg err;
        int rc = guard_rule_parse(&rule, rules->texts[i], &err);
        guard_rule_free(&rule);
        if (rc == HT_ENOMEM)
            return rc;
        if (rc < 0)
            cli_config_problem(c, rules->at[i], "%s: %s", key, err.text);
    }
    return HT_OK;
}

/* Checks the keys that go with the fields, which are good. */
static int check_together(struct cli_config *c, const struct cli_config_policy *p) {
    struct guard_policy_config cfg = {
        .host = "name", .header_names = p->names, .header_values = p->values, .n_headers = p->n_names, .user = p->user};
    int rc = p->user ? try_it(c, &cfg, p->user_at) : HT_OK;
    cfg.user = NULL;
    cfg.placeholder = p->replace;
    return rc == HT_OK && p->replace ? try_it(c, &cfg, p->replace_at) : rc;
}

int cli_config_policy_check(struct cli_config *c, const struct opt_config_reach *reach, struct cli_config_policy *p,
                            const struct cli_config_binding *where) {
    struct guard_rate rate;
    struct ht_errmsg err;
    p->user = reach->user;
    p->replace = reach->replace;
    p->rate = reach->rate;
    if (reach->name && reach->name[0] == '*')
        cli_config_problem(
            c, where->port_at,
            "name: %.200s stands for many hosts; inject, user, replace, allow, deny and rate are for one", reach->name);
    if (p->rate && guard_rate_parse(&rate, p->rate, &err) < 0)
        cli_config_problem(c, p->rate_at, "%s", err.text);
    int rc = check_rules(c, "allow", &p->allow);
    if (rc == HT_OK)
        rc = check_rules(c, "deny", &p->deny);
    if (rc == HT_OK)
        rc = check_fields(c, p);
    if (rc == HT_OK)
        rc = check_together(c, p);
    return rc == HT_ENOMEM ? rc : HT_OK;
}
