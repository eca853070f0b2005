/* Mappings of the configuration file: their values are read as those of options are. */
#include "opt/opt_priv.h"

int opt_mapping_defaults(const struct opt_mapping *m, void *out) {
    char *base = out;
    memset(out, 0, m->size);
    for (size_t i = 0; i < m->n_options; i++) {
        const struct opt_option *o = &m->options[i];
        struct opt_source src = {"", opt_text(o->name), NULL};
        int rc = o->default_text ? opt_set_value(o, &src, opt_text(o->default_text), base) : HT_OK;
        if (rc != HT_OK)
            return rc;
    }
    return HT_OK;
}

int opt_mapping_set(const struct opt_mapping *m, void *out, const struct opt_key *key, const char *text,
                    struct ht_errmsg *err) {
    char *base = out;
    for (size_t i = 0; i < m->n_options; i++) {
        const struct opt_option *o = &m->options[i];
        if (strcmp(opt_text(o->name), key->name) != 0)
            continue;
        struct opt_source src = {"", key->name, err};
        int rc = opt_set_value(o, &src, text, base);
        if (rc == HT_OK)
            *(bool *)(base + o->given) = true;
        return rc;
    }
    return HT_EINVAL;
}

const struct opt_key *opt_mapping_find(const struct opt_mapping *m, const char *name, const char **near) {
    size_t best_distance = SIZE_MAX;
    *near = NULL;
    for (size_t i = 0; i < m->n_keys; i++) {
        if (strcmp(m->keys[i].name, name) == 0)
            return &m->keys[i];
        opt_consider(name, m->keys[i].name, near, &best_distance);
    }
    return NULL;
}
