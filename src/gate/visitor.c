#include "gate/visitor.h"

#include "base/mem.h"
#include "http/http.h"

int gate_nets_parse(struct gate_nets *to, const char *const *texts, size_t n, struct ht_errmsg *err) {
    *to = (struct gate_nets){.n = 0};
    for (size_t i = 0; i < n; i++) {
        struct ht_slice rest = ht_slice_str(texts[i]), item;
        if (!texts[i])
            return ht_fail(err, HT_EINVAL, "a network is NULL");
        for (unsigned k = 0; k == 0 || rest.n; k++) {
            struct ht_cidr net;
            if (!http_list_next(&rest, &item))
                item = ht_slice_of("", 0);
            if (!ht_cidr_read(item.p, item.n, &net))
                return ht_fail(err, HT_EINVAL, "\"%.*s\" is not a network; write 10.0.0.0/8, 192.168.1.7 or fd00::/8",
                               (int)ht_min(item.n, 80), item.p);
            struct ht_cidr *more = ht_realloc(to->nets, (to->n + 1) * sizeof *more);
            if (!more)
                return ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
            to->nets = more;
            to->nets[to->n++] = net;
        }
    }
    return HT_OK;
}

void gate_nets_free(struct gate_nets *n) {
    ht_free(n->nets);
    *n = (struct gate_nets){.n = 0};
}

bool gate_nets_have(const struct gate_nets *n, const struct io_addr *a) {
    uint8_t bytes[16];
    int family = io_addr_bytes(a, bytes);
    return family && ht_cidrs_match(n->nets, n->n, family, bytes);
}

/* Reads an address with or without a port: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1], [2001:db8::1]:80. */
static bool read_addr(struct ht_slice s, struct io_addr *a) {
    char text[IO_ADDR_TEXT];
    if (s.n == 0 || s.n >= sizeof text)
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    char *host = text, *colon = strchr(text, ':');
    if (*text == '[') {
        char *end = strchr(text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return false;
        *end = '\0';
        host = text + 1;
        return strchr(host, ':') && io_addr_parse(a, host, 0) == HT_OK;
    }
    if (colon && colon == strrchr(text, ':'))
        *colon = '\0';
    return io_addr_parse(a, host, 0) == HT_OK;
}

/* Cuts the last item off a comma list; an empty one is an item, too. */
static struct ht_slice take_last(struct ht_slice *list) {
    size_t from = list->n;
    while (from && list->p[from - 1] != ',')
        from--;
    struct ht_slice item = ht_slice_of(list->p + from, list->n - from);
    list->n = from ? from - 1 : 0;
    while (item.n && (item.p[0] == ' ' || item.p[0] == '\t'))
        item = ht_slice_of(item.p + 1, item.n - 1);
    while (item.n && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t'))
        item.n--;
    return item;
}

void gate_visitor_read(struct gate_visitor *v, const struct wire_stream_open *open, const struct gate_nets *edges) {
    *v = (struct gate_visitor){.known = false};
    v->edge_known = open->has_peer_addr && read_addr(open->peer_addr, &v->from);
    if (!v->edge_known)
        return;
    v->edge = gate_nets_have(edges, &v->from);
    v->known = !v->edge;
    v->addr = v->from;
    for (size_t i = open->n_headers; i-- > 0 && !v->known;) {
        if (!ht_slice_case_eq(open->headers[i].name, ht_slice_str("x-forwarded-for")))
            continue;
        for (struct ht_slice list = open->headers[i].value; list.n && !v->known;) {
            if (!read_addr(take_last(&list), &v->addr))
                return;
            v->known = !gate_nets_have(edges, &v->addr);
        }
    }
}
