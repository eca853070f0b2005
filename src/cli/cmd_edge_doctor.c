/* edge doctor: what an edge of this server needs, what of it is there, and what is missing. Nothing is changed. */
#include "cli/checks.h"

#include "base/clock.h"
#include "edge/edge.h"
#include "edge/look.h"
#include "haproxy_gen.h"
#include "io/site.h"
#include "proc/caps.h"
#include "proc/clock.h"
#include "proc/files.h"

#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ADDRESSES_MAX 8
#define OUTPUT_MAX 16384
#define PEM_MAX (128u * 1024u)
#define SOON_S (14 * 86400) /* a certificate that ends sooner is told */
#define WORTH_US 1000       /* less is not told */
#define QUIC_TRIES 20
#define QUIC_WAIT_MS 50
#define HTTPS_PORT 443
#define HTTP_PORT 80

enum check {
    CHECK_HAPROXY,
    CHECK_USER,
    CHECK_RIGHTS,
    CHECK_FOLDER,
    CHECK_HTTPS,
    CHECK_HTTP,
    CHECK_NAME,
    CHECK_SERVICES,
    CHECK_CONTAINERS,
    CHECK_CERTIFICATE,
    CHECK_CLOCK,
    CHECK_RULES,
    CHECK_ROUTES,
    CHECK_MARKS,
    CHECK_RP_FILTER,
    CHECK_LEGO,
    CHECK_HTTP3,
    N_CHECKS
};
static const char *const names[N_CHECKS] = {"haproxy", "user",     "rights",     "folder",      "port-443", "port-80",
                                            "name",    "services", "containers", "certificate", "clock",    "rules",
                                            "routes",  "marks",    "rp-filter",  "lego",        "http3"};

struct doctor {
    const struct opt_edge_doctor *o;
    struct io_loop *loop;
    const char *folder;
    struct cli_check found[N_CHECKS];
    enum check now;
    uint64_t begun_us;
    bool over, busy, v4, v6, quic; /* `busy`: an edge works in the folder; families of the containers' networks */
    bool external, served;         /* HAProxy is a unit of its own; it is there */
    int err;
    size_t n_output;
    char output[OUTPUT_MAX + 1], text[512];
    struct io_addr addr[ADDRESSES_MAX];
    unsigned n_addr;
    int64_t cert_begins;
};

/* ---- findings ---- */

static void begin(struct doctor *d, enum check check) {
    d->now = check;
    d->begun_us = ht_now_us();
}

static void find(struct doctor *d, enum cli_verdict verdict, const char *help, const char *fmt, ...) HT_PRINTF(4, 5);
static void find(struct doctor *d, enum cli_verdict verdict, const char *help, const char *fmt, ...) {
    struct cli_check *c = &d->found[d->now];
    va_list ap;
    c->verdict = verdict;
    c->us = verdict == CLI_SKIPPED ? 0 : ht_now_us() - d->begun_us;
    if (c->us < WORTH_US)
        c->us = 0;
    c->exit_status = OPT_EXIT_CONFIG;
    c->help = help;
    va_start(ap, fmt);
    vsnprintf(c->text, sizeof c->text, fmt, ap);
    va_end(ap);
}

/* ---- asking ---- */

static void on_child(void *ctx, int err, size_t n, const char *text) {
    struct doctor *d = ctx;
    d->err = err;
    d->n_output = n;
    d->over = true;
    snprintf(d->text, sizeof d->text, "%s", text);
    io_loop_break(d->loop);
}

/* Runs a program; `output` has what it prints. HT_OK: it ended with status 0. */
static int ask(struct doctor *d, const char *const argv[]) {
    static const struct io_child_ops ops = {.ended = on_child};
    uint64_t patience = d->o->timeout_ms;
    const struct io_child_config cfg = {.argv = argv, .into = d->output, .cap = OUTPUT_MAX, .limit_ms = patience};
    struct ht_errmsg err;
    d->over = false;
    d->output[0] = '\0';
    struct io_child *c = io_child_start(d->loop, &cfg, &ops, d, &err);
    if (!c) {
        snprintf(d->text, sizeof d->text, "%s", err.text);
        return HT_EIO;
    }
    while (!d->over)
        io_loop_run(d->loop);
    d->output[d->n_output] = '\0';
    return d->err;
}

/* ---- HAProxy and who runs it ---- */

static void check_haproxy(struct doctor *d) {
    char program[EDGE_PROGRAM], version[64] = "";
    unsigned major = 0, minor = 0;
    if (d->o->haproxy)
        snprintf(program, sizeof program, "%s", d->o->haproxy);
    if (d->o->haproxy ? access(program, X_OK) != 0 : !edge_look_program(HAPROXY_PROGRAM, program)) {
        find(d, CLI_FAILED, "apt-get install " HAPROXY_PACKAGE ", or name it with --haproxy", "%s: there is none",
             d->o->haproxy ? program : HAPROXY_PROGRAM);
        return;
    }
    const char *const argv[] = {program, "-vv", NULL};
    int rc = ask(d, argv);
    if (rc < 0 || (sscanf(d->output, "HAProxy version %u.%u", &major, &minor) != 2 &&
                   sscanf(d->output, "HA-Proxy version %u.%u", &major, &minor) != 2)) {
        find(d, CLI_FAILED, "", "%s -vv does not say which version it is (%s)", program, d->text);
        return;
    }
    (void)sscanf(d->output, "%*s version %63s", version);
    d->quic = strstr(d->output, "+QUIC ") != NULL;
    bool old = major < HAPROXY_VERSION_MAJOR || (major == HAPROXY_VERSION_MAJOR && minor < HAPROXY_VERSION_MINOR);
    if (old)
        find(d, CLI_FAILED, "install a later one, or name it with --haproxy",
             "%s is version %u.%u; the edge needs %d.%d or later", program, major, minor, HAPROXY_VERSION_MAJOR,
             HAPROXY_VERSION_MINOR);
    else if (d->o->client_address == OPT_CLIENT_ADDRESS_TPROXY && !strstr(d->output, "+LINUX_TPROXY"))
        find(d, CLI_FAILED, "install one that is built with USE_LINUX_TPROXY", "%s cannot do TPROXY: %s", program,
             version);
    else
        find(d, CLI_OK, "", "%s: %s", program, version);
}

static bool wants_own_user(const struct doctor *d) {
    return d->o->client_address == OPT_CLIENT_ADDRESS_TPROXY || d->o->http3;
}

static void check_user(struct doctor *d) {
    const struct passwd *me = getpwuid(geteuid());
    if (geteuid() != 0)
        find(d, CLI_OK, "", "%s; HAProxy %s as the same", me ? me->pw_name : "a user without a name",
             d->external ? "is to run" : "runs");
    else if (wants_own_user(d))
        find(d, CLI_FAILED, "run the edge as hoody-tunnel-edge.service does, and this command as that user",
             "root, which may run neither --client-address tproxy nor --http3");
    else if (!getpwnam(HAPROXY_ACCOUNT) || !getgrnam(HAPROXY_ACCOUNT))
        find(d, CLI_FAILED, "install the package " HAPROXY_PACKAGE ", which makes it",
             "root; HAProxy becomes the account " HAPROXY_ACCOUNT ", and there is none");
    else
        find(d, CLI_OK, "", "root; HAProxy becomes the account " HAPROXY_ACCOUNT);
}

static unsigned first_free_port(void) {
    unsigned port = 1024;
    FILE *f = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
    if (f) {
        if (fscanf(f, "%u", &port) != 1)
            port = 1024;
        fclose(f);
    }
    return port;
}

static void check_rights(struct doctor *d) {
    bool low = first_free_port() <= HTTP_PORT || proc_caps_inherited(PROC_CAP_NET_BIND_SERVICE);
    bool net = d->o->client_address != OPT_CLIENT_ADDRESS_TPROXY || proc_caps_inherited(PROC_CAP_NET_ADMIN);
    if (d->external)
        find(d, CLI_OK, "", "none needed; hoody-tunnel-edge-haproxy.service gives HAProxy those that it needs");
    else if (low && net)
        find(d, CLI_OK, "",
             d->o->client_address == OPT_CLIENT_ADDRESS_TPROXY
                 ? "ports 80 and 443, and connections from visitors' addresses"
                 : "ports 80 and 443");
    else
        find(d, CLI_FAILED, "hoody-tunnel-edge.service gives it; run this command as the edge is run",
             "%s%s%s: not an ambient capability of this user", low ? "" : "CAP_NET_BIND_SERVICE",
             low || net ? "" : " and ", net ? "" : "CAP_NET_ADMIN");
}

static void check_folder(struct doctor *d) {
    struct edge_folder_facts f;
    edge_look_folder(d->folder, &f);
    d->busy = f.busy;
    d->served = d->external && f.served;
    if (!f.there)
        find(d, CLI_OK, "", "%s is made when the edge starts", d->folder);
    else if (!f.is_folder)
        find(d, CLI_FAILED, "move it, or name another with --folder", "%s is no folder", d->folder);
    else if (f.owner != geteuid())
        find(d, CLI_FAILED, "run this command and the edge as that user, or name another with --folder",
             "%s belongs to user %u, and this is user %u", d->folder, (unsigned)f.owner, (unsigned)geteuid());
    else if (f.mode & 067)
        find(d, CLI_WARNING, "it has keys in it; the edge closes it when it starts", "%s is open to others: mode %04o",
             d->folder, (unsigned)f.mode);
    else if (d->external && f.busy && !f.served)
        find(d, CLI_FAILED, "systemctl start hoody-tunnel-edge-haproxy",
             "%s: the agent works in it, and no HAProxy is there", d->folder);
    else
        find(d, CLI_OK, "", "%s, mode %04o%s%s", d->folder, (unsigned)f.mode, f.busy ? "; an edge works in it" : "",
             d->served ? "; HAProxy, another unit's, serves" : "");
}

/* ---- ports ---- */

static void check_port(struct doctor *d, uint16_t port) {
    int v4 = edge_look_port(AF_INET, SOCK_STREAM, port), v6 = edge_look_port(AF_INET6, SOCK_STREAM, port);
    int why = v4 ? v4 : v6 == EAFNOSUPPORT ? 0 : v6;
    if (why == 0 && (d->busy || d->served))
        find(d, CLI_FAILED, "look at its log", "an edge works in the folder and does not listen here");
    else if (why == 0)
        find(d, CLI_OK, "", "free%s", v6 == EAFNOSUPPORT ? "; this machine has no IPv6" : "");
    else if (d->external && why == EACCES)
        find(d, CLI_OK, "", "not open, and not this user's to open: HAProxy's unit does");
    else if (why == EADDRINUSE && (d->busy || d->served))
        find(d, CLI_OK, "", "in use, by the edge that works in %s", d->folder);
    else if (why == EADDRINUSE)
        find(d, CLI_FAILED, "end the program that has it: `ss -ltnp` as root names it", "in use by another program");
    else
        find(d, CLI_FAILED, why == EACCES ? "see rights" : "", "%s", strerror(why));
}

/* ---- names ---- */

static void on_connected(void *ctx, struct io_conn *c) {
    struct doctor *d = ctx;
    io_conn_close(&c);
    d->over = true;
    io_loop_break(d->loop);
}

static void on_failed(void *ctx, int err, const char *text) {
    struct doctor *d = ctx;
    (void)err;
    snprintf(d->text, sizeof d->text, "%s", text);
    d->over = true;
    io_loop_break(d->loop);
}

/* Notes each address, and lets none be dialled. */
static bool note_address(void *ctx, const struct io_addr *a) {
    struct doctor *d = ctx;
    if (d->n_addr < ADDRESSES_MAX)
        d->addr[d->n_addr++] = *a;
    return false;
}

static void look_up(struct doctor *d, const char *host) {
    static const struct io_dial_ops ops = {.connected = on_connected, .failed = on_failed, .allowed = note_address};
    struct ht_errmsg err;
    d->n_addr = 0;
    d->over = false;
    if (!io_dial_start(d->loop, host, HTTPS_PORT, NULL, d->o->timeout_ms, &ops, d, &err)) {
        snprintf(d->text, sizeof d->text, "%s", err.text);
        return;
    }
    while (!d->over)
        io_loop_run(d->loop);
}

static void check_host(struct doctor *d, const char *host, enum cli_verdict missing, const char *help) {
    char list[ADDRESSES_MAX * (IO_ADDR_TEXT + 2)] = "", one[IO_ADDR_TEXT];
    unsigned own = 0;
    look_up(d, host);
    for (unsigned i = 0; i < d->n_addr; i++) {
        uint8_t bytes[16];
        int family = io_addr_bytes(&d->addr[i], bytes);
        own += family && edge_look_is_own(family == 4 ? AF_INET : AF_INET6, bytes);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "",
                 io_addr_host(&d->addr[i], one));
    }
    if (d->n_addr == 0)
        find(d, missing, help, "%s: %s", host, d->text);
    else if (own == d->n_addr)
        find(d, CLI_OK, "", "%s leads here: %s", host, list);
    else
        find(d, CLI_WARNING, "right only if that passes connections on to this machine",
             "%s leads to %s, and %s no address of this machine", host, list,
             own ? "not all of it is an address of it; one is" : "that is");
}

static void check_names(struct doctor *d) {
    char host[600], label[32];
    snprintf(label, sizeof label, "doctor-%08llx", (unsigned long long)(ht_now_us() & 0xffffffffu));
    begin(d, CHECK_NAME);
    snprintf(host, sizeof host, "%s.%s", d->o->id, d->o->domain);
    check_host(d, host, CLI_FAILED, "drivers connect to it: make an A or AAAA record for *.DOMAIN");
    begin(d, CHECK_SERVICES);
    snprintf(host, sizeof host, "%s.%s", label, d->o->domain);
    check_host(d, host, CLI_FAILED, "services are below it: make an A or AAAA record for *.DOMAIN");
    begin(d, CHECK_CONTAINERS);
    snprintf(host, sizeof host, "%s.%s.containers.%s", label, d->o->id, d->o->domain);
    check_host(d, host, CLI_WARNING, "containers are below it, if there are some: a record for *.ID.containers.DOMAIN");
}

/* ---- the certificate, and the clock ---- */

/* Appends a file. False: `text` says why not; `missing`: it is not there. */
static bool read_pem(struct doctor *d, enum proc_files_kind kind, const char *path, struct ht_buf *to, bool *missing) {
    struct ht_errmsg err;
    *missing = access(path, F_OK) != 0 && errno == ENOENT;
    int fd = proc_files_open(kind, path, NULL, &err);
    snprintf(d->text, sizeof d->text, "%s", fd < 0 ? err.text : "");
    uint8_t *at = fd < 0 ? NULL : ht_buf_reserve(to, PEM_MAX);
    ssize_t n = at ? read(fd, at, PEM_MAX) : -1;
    if (fd >= 0 && n <= 0)
        snprintf(d->text, sizeof d->text, "%s: %s", path, n == 0 ? "it is empty" : strerror(errno));
    if (n > 0)
        ht_buf_commit(to, (size_t)n);
    if (fd >= 0)
        close(fd);
    return n > 0;
}

static void tell_certificate(struct doctor *d, struct ht_slice pem, const char *path) {
    char ends[32] = "?", host[3][600];
    struct io_site_facts f;
    struct ht_errmsg err;
    time_t now = time(NULL);
    struct tm tm;
    if (io_site_look(pem, &f, &err) < 0) {
        find(d, CLI_FAILED, "name a PEM file with the certificate and its chain", "%s: %s", path, err.text);
        return;
    }
    d->cert_begins = f.begins;
    time_t at = (time_t)f.ends;
    if (gmtime_r(&at, &tm))
        strftime(ends, sizeof ends, "%Y-%m-%d", &tm);
    snprintf(host[0], sizeof host[0], "%s.%s", d->o->id, d->o->domain);
    snprintf(host[1], sizeof host[1], "a.%s.containers.%s", d->o->id, d->o->domain);
    if (!f.fits_key)
        find(d, CLI_FAILED, "--tls-key names the file with its key", "%s: its key is not there, or another one", path);
    else if (f.ends <= now)
        find(d, CLI_FAILED, "renew it", "%s: the certificate of %s has ended on %s", path, f.subject, ends);
    else if (!io_site_is_for(pem, host[0]))
        find(d, CLI_FAILED, "get one for *.DOMAIN", "%s: the certificate is not for *.%s", path, d->o->domain);
    else if (f.ends - now < SOON_S && d->o->n_tls_cert)
        find(d, CLI_WARNING, "renew it", "%s: the certificate of %s ends on %s", path, f.subject, ends);
    else if (!d->o->n_tls_cert)
        find(d, CLI_WARNING, "for trying out; --tls-cert and --tls-key name one that everybody trusts",
             "%s is of an authority of the edge's own, and good until %s", path, ends);
    else if (!io_site_is_for(pem, host[1]))
        find(d, CLI_WARNING, "right where there are no containers", "%s: good until %s, but not for *.%s.containers.%s",
             path, ends, d->o->id, d->o->domain);
    else
        find(d, CLI_OK, "", "%s: by %s, good until %s", path, f.issuer, ends);
}

static void check_certificate(struct doctor *d) {
    struct ht_buf pem = {0};
    char own[600];
    bool missing = false;
    snprintf(own, sizeof own, "%s/certs/edge.pem", d->folder);
    const char *path = d->o->n_tls_cert ? d->o->tls_cert[0] : own;
    bool ok = read_pem(d, PROC_FILES_CERT, path, &pem, &missing);
    if (ok && d->o->n_tls_key)
        ok = read_pem(d, PROC_FILES_KEY, d->o->tls_key[0], &pem, &missing);
    if (ok)
        tell_certificate(d, ht_buf_slice(&pem), path);
    else if (missing && !d->o->n_tls_cert)
        find(d, CLI_WARNING, "for trying out; --tls-cert and --tls-key name one that everybody trusts",
             "none is named: the edge makes an authority of its own");
    else
        find(d, CLI_FAILED, "name files that this user may read with --tls-cert and --tls-key", "%s", d->text);
    if (pem.data)
        explicit_bzero(pem.data, pem.cap);
    ht_buf_free(&pem);
}

static void check_clock(struct doctor *d) {
    time_t now = time(NULL);
    char text[32] = "?";
    struct tm tm;
    if (gmtime_r(&now, &tm))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &tm);
    if (d->cert_begins > now)
        find(d, CLI_FAILED, "set the clock: certificates and tokens are checked against it",
             "%s, before the certificate's first day", text);
    else if (!proc_clock_synchronized())
        find(d, CLI_WARNING, "run a time service, such as systemd-timesyncd or chrony", "%s; nothing keeps it right",
             text);
    else
        find(d, CLI_OK, "", "%s, and something keeps it right", text);
}

/* ---- TPROXY ---- */

/* True: it ended well. Otherwise it may be that there is no such program, and then that is found. */
static bool run_tool(struct doctor *d, const char *name, const char *package, const char *const args[]) {
    char program[EDGE_PROGRAM];
    const char *argv[8] = {program};
    if (!edge_look_program(name, program)) {
        find(d, CLI_FAILED, package, "%s: there is no such program", name);
        return false;
    }
    for (size_t i = 0; args[i] && i + 2 < HT_ARRAY_LEN(argv); i++)
        argv[i + 1] = args[i];
    return ask(d, argv) == HT_OK;
}

#define MAKE_ROUTES "`hoody-tunnel-edge-routes up`, or start hoody-tunnel-edge-routes.service"

/* Whether `ip -4|-6 WHAT show [table TABLE]` says `wanted`, for each family that containers have. */
static void check_ip(struct doctor *d, const char *what, const char *table, const char *wanted, const char *means) {
    for (int family = 4; family <= 6; family += 2) {
        const char *const args[] = {family == 4 ? "-4" : "-6", what, "show", table ? "table" : NULL, table, NULL};
        if (!(family == 4 ? d->v4 : d->v6))
            continue;
        bool ran = run_tool(d, "ip", "apt-get install iproute2", args);
        if (d->found[d->now].verdict == CLI_FAILED)
            return;
        if (!ran || !strstr(d->output, wanted)) {
            find(d, CLI_FAILED, MAKE_ROUTES, "IPv%d: there is no %s", family, means);
            return;
        }
    }
    find(d, CLI_OK, "", "%s", means);
}

static void check_marks(struct doctor *d) {
    const char *const args[] = {"list", "table", "inet", HAPROXY_TPROXY_NFT_TABLE, NULL};
    char wanted[64];
    if (!run_tool(d, "nft", "apt-get install nftables", args)) {
        if (d->found[d->now].verdict == CLI_FAILED)
            return;
        if (!proc_caps_inherited(PROC_CAP_NET_ADMIN))
            find(d, CLI_WARNING, "run this command as root, or as the edge is run",
                 "nftables can be seen with CAP_NET_ADMIN only");
        else
            find(d, CLI_FAILED, MAKE_ROUTES, "the table " HAPROXY_TPROXY_NFT_TABLE " of nftables is missing");
        return;
    }
    snprintf(wanted, sizeof wanted, "mark set 0x%08x", HAPROXY_TPROXY_MARK);
    if (!strstr(d->output, "hook prerouting") || !strstr(d->output, "socket transparent 1") ||
        !strstr(d->output, wanted))
        find(d, CLI_FAILED, MAKE_ROUTES, "the table " HAPROXY_TPROXY_NFT_TABLE " of nftables is another one");
    else
        find(d, CLI_OK, "", "answers to HAProxy's own connections are marked %#x", HAPROXY_TPROXY_MARK);
}

static long setting(const char *name) {
    char path[128];
    long value = -1;
    snprintf(path, sizeof path, "/proc/sys/net/ipv4/conf/all/%s", name);
    FILE *f = fopen(path, "re");
    if (f) {
        if (fscanf(f, "%ld", &value) != 1)
            value = -1;
        fclose(f);
    }
    return value;
}

/* With src_valid_mark the check of the reverse path takes the mark along, and finds "here" where the container was. */
static void check_rp_filter(struct doctor *d) {
    long filter = setting("rp_filter"), marked = setting("src_valid_mark");
    if (marked == 1)
        find(d, CLI_FAILED, "sysctl -w net.ipv4.conf.all.src_valid_mark=0",
             "net.ipv4.conf.all.src_valid_mark is 1: answers of containers are dropped as if they came from elsewhere");
    else
        find(d, CLI_OK, "", "net.ipv4.conf.all.rp_filter is %ld, and looks at no mark", filter);
}

static void check_tproxy(struct doctor *d) {
    bool wanted = d->o->client_address == OPT_CLIENT_ADDRESS_TPROXY;
    char rule[64], table[16], route[80];
    for (size_t i = 0; i < d->o->n_container_network; i++)
        *(d->o->container_network[i].family == 4 ? &d->v4 : &d->v6) = true;
    if (!wanted || (!d->v4 && !d->v6)) {
        for (enum check c = CHECK_RULES; c <= CHECK_RP_FILTER; c++) {
            begin(d, c);
            find(d, wanted ? CLI_FAILED : CLI_SKIPPED, wanted ? "name their networks with --container-network" : "",
                 wanted ? "for containers in which networks?" : "for --client-address tproxy alone");
        }
        return;
    }
    begin(d, CHECK_RULES);
    snprintf(rule, sizeof rule, "fwmark %#x lookup %u", HAPROXY_TPROXY_MARK, HAPROXY_TPROXY_TABLE);
    check_ip(d, "rule", NULL, rule, rule);
    begin(d, CHECK_ROUTES);
    snprintf(table, sizeof table, "%u", HAPROXY_TPROXY_TABLE);
    snprintf(route, sizeof route, "route of table %s to this machine", table);
    check_ip(d, "route", table, "local default dev lo", route);
    begin(d, CHECK_MARKS);
    check_marks(d);
    begin(d, CHECK_RP_FILTER);
    check_rp_filter(d);
}

/* ---- what else it may need ---- */

static void check_lego(struct doctor *d) {
    char program[EDGE_PROGRAM];
    const char *given = d->o->lego;
    if (given ? access(given, X_OK) == 0 : edge_look_program(HAPROXY_ACME_PROGRAM, program))
        find(d, CLI_OK, "", "%s gets certificates", given ? given : program);
    else if (d->o->acme_email || given)
        find(d, CLI_FAILED, "install the package " HAPROXY_ACME_PACKAGE ", or name the program with --lego",
             "%s is not there, and --acme-email takes it", given ? given : HAPROXY_ACME_PROGRAM);
    else
        find(d, CLI_SKIPPED, "apt-get install lego, for certificates that are got here", "none is installed");
}

/* Whether a server of QUIC answers, within a second. */
static bool quic_answers(uint16_t port) {
    int fd = edge_quic_ask(port);
    bool ok = false;
    for (int i = 0; fd >= 0 && !ok && i < QUIC_TRIES; i++) {
        struct timespec wait = {.tv_nsec = QUIC_WAIT_MS * 1000000L};
        nanosleep(&wait, NULL);
        ok = edge_quic_answered(fd);
    }
    if (fd >= 0)
        close(fd);
    return ok;
}

static void check_http3(struct doctor *d) {
    char caddy[EDGE_PROGRAM] = "";
    uint16_t port = (uint16_t)d->o->http3_port;
    if (!d->o->http3) {
        find(d, CLI_SKIPPED, "", "for --http3 alone");
        return;
    }
    int why = edge_look_port(AF_INET, SOCK_DGRAM, port);
    bool there = d->quic || edge_look_program(HAPROXY_HTTP3_PROGRAM, caddy),
         answers = why == EADDRINUSE && quic_answers(port);
    const char *by = d->quic ? "HAProxy" : caddy;
    if (!there)
        find(d, CLI_FAILED, "apt-get install " HAPROXY_HTTP3_PROGRAM,
             "this HAProxy has no QUIC, and Caddy is not installed");
    else if (!d->quic && (port == HTTPS_PORT || port == HTTP_PORT))
        find(d, CLI_FAILED, "take another --http3-port", "Caddy would take the TCP port %u as well, which HAProxy has",
             port);
    else if (why == EACCES)
        find(d, CLI_FAILED, "see rights", "UDP port %u: %s", port, strerror(why));
    else if (d->busy && !answers)
        find(d, CLI_FAILED, "look at the log of the edge", "nothing answers QUIC at UDP port %u", port);
    else if (d->busy)
        find(d, CLI_OK, "", "QUIC answers at UDP port %u, by %s", port, by);
    else if (why != 0)
        find(d, CLI_FAILED, "end the program that has it: `ss -lunp` as root names it", "UDP port %u: %s", port,
             strerror(why));
    else
        find(d, CLI_OK, "", "by %s; UDP port %u is free", by, port);
}

/* ---- the command ---- */

static void check_all(struct doctor *d) {
    static const struct {
        enum check check;
        void (*run)(struct doctor *d);
    } all[] = {{CHECK_HAPROXY, check_haproxy}, {CHECK_USER, check_user},    {CHECK_RIGHTS, check_rights},
               {CHECK_FOLDER, check_folder},   {CHECK_NAME, check_names},   {CHECK_CERTIFICATE, check_certificate},
               {CHECK_CLOCK, check_clock},     {CHECK_RULES, check_tproxy}, {CHECK_LEGO, check_lego},
               {CHECK_HTTP3, check_http3}};
    for (size_t i = 0; i < N_CHECKS; i++)
        d->found[i].name = names[i];
    for (size_t i = 0; i < HT_ARRAY_LEN(all); i++) {
        begin(d, all[i].check);
        all[i].run(d);
    }
    begin(d, CHECK_HTTPS);
    check_port(d, HTTPS_PORT);
    begin(d, CHECK_HTTP);
    check_port(d, HTTP_PORT);
}

int cmd_edge_doctor(int argc, char **argv) {
    struct opt_edge_doctor o;
    struct ht_errmsg err;
    int rc = opt_edge_doctor_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_DOCTOR, &err);
    ht_log_setup(STDERR_FILENO, HT_LOG_ERROR, HT_LOG_TEXT);
    struct doctor *d = calloc(1, sizeof *d);
    if (!o.domain || !o.id) {
        cli_complain("edge doctor needs --domain and --id, as edge up does");
        rc = OPT_EXIT_USAGE;
    } else if (!d || !(d->loop = io_loop_create())) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        rc = OPT_EXIT_FAILURE;
    } else {
        d->o = &o;
        d->external = o.engine == OPT_ENGINE_EXTERNAL;
        d->folder = o.folder ? o.folder : CLI_EDGE_UP_FOLDER;
        check_all(d);
        rc = cli_checks_tell(d->found, N_CHECKS, o.json, o.color);
        io_loop_destroy(&d->loop);
    }
    free(d);
    opt_edge_doctor_free(&o);
    return rc;
}
