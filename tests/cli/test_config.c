/* The configuration file of up: what good files say, what is said about bad ones, and failing memory. */
#include "base/mem.h"
#include "cli/config.h"
#include "support/tap.h"

#include <stdlib.h>

static struct cli_config c;

static int parse(const char *name, const char *text) { return cli_config_parse(&c, name, text, strlen(text)); }

static void a_good_file(void) {
    static const char text[] = "# everything\n"
                               "url: wss://kit.example\n"
                               "token-file: token.txt\n"
                               "ca: /etc/ca.pem\n"
                               "url-file: out/urls\n"
                               "state-file: state\n"
                               "retry-for: 10m\n"
                               "connections: \"4\"\n"
                               "pool-size: 0\n"
                               "headers:\n"
                               "  X-Team: blue green\n"
                               "  Cookie: 'a=b'\n"
                               "expose:\n"
                               "  - target: 3000\n"
                               "    port: 8080\n"
                               "    label: web\n"
                               "    takeover: true\n"
                               "  - {target: \"[::1]:3001\"}\n"
                               "  - 0=api.local:90\n"
                               "  - 8080\n"
                               "pull:\n"
                               "  - target: localhost:5432\n"
                               "    host: ::1\n"
                               "  - 8080\n"
                               "audit: audit.jsonl\n"
                               "audit-query: true\n";
    CU_ASSERT_EQUAL(parse("dir/tunnel.yaml", text), HT_EINVAL); /* 8080 twice */
    cli_config_free(&c);
    char *good = ht_strndup(text, sizeof text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(good);
    memcpy(strstr(good, "- 8080"), "- 9090", 6);
    CU_ASSERT_EQUAL(parse("dir/tunnel.yaml", good), HT_OK);
    ht_free(good); /* nothing points into it */
    CU_ASSERT_EQUAL(c.file.n_problems, 0);
    CU_ASSERT_STRING_EQUAL(c.top.url, "wss://kit.example");
    CU_ASSERT_STRING_EQUAL(c.token_file, "dir/token.txt");
    CU_ASSERT_STRING_EQUAL(c.ca, "/etc/ca.pem");
    CU_ASSERT_STRING_EQUAL(c.url_file, "dir/out/urls");
    CU_ASSERT_STRING_EQUAL(c.state_file, "dir/state");
    CU_ASSERT_STRING_EQUAL(c.audit, "dir/audit.jsonl");
    CU_ASSERT(c.top.set_audit_query && c.top.audit_query);
    CU_ASSERT(c.top.set_retry_for && c.top.retry_for_ms == 600000);
    CU_ASSERT_EQUAL(c.top.connections, 4);
    CU_ASSERT(c.top.set_pool_size && c.top.pool_size == 0);
    CU_ASSERT(!c.top.set_connect_timeout && c.top.connect_timeout_ms == 10000);
    CU_ASSERT_EQUAL_FATAL(c.n_headers, 2);
    CU_ASSERT_STRING_EQUAL(c.headers[0], "X-Team: blue green");
    CU_ASSERT_STRING_EQUAL(c.headers[1], "Cookie: a=b");
    static const struct {
        const char *target, *name, *host;
        unsigned port, line;
        bool pull, takeover;
    } want[] = {
        {"3000", "web", NULL, 8080, 14, false, true},           {"[::1]:3001", NULL, NULL, 3001, 18, false, false},
        {"api.local:90", NULL, NULL, 0, 19, false, false},      {"9090", NULL, NULL, 9090, 20, false, false},
        {"localhost:5432", NULL, "::1", 5432, 22, true, false}, {"8080", NULL, NULL, 8080, 24, true, false},
    };
    CU_ASSERT_EQUAL_FATAL(c.n_bindings, HT_ARRAY_LEN(want));
    for (size_t i = 0; i < HT_ARRAY_LEN(want); i++) {
        const struct cli_config_binding *b = &c.bindings[i];
        CU_ASSERT_STRING_EQUAL(b->target, want[i].target);
        CU_ASSERT_EQUAL(b->container_port, want[i].port);
        CU_ASSERT_EQUAL(b->at.line, want[i].line);
        CU_ASSERT_EQUAL(b->pull, want[i].pull);
        CU_ASSERT_EQUAL(b->takeover, want[i].takeover);
        CU_ASSERT(want[i].name ? b->label && strcmp(b->label, want[i].name) == 0 : !b->label);
        CU_ASSERT(want[i].host ? b->host && strcmp(b->host, want[i].host) == 0 : !b->host);
    }
    cli_config_free(&c);
}

/* What an item of reach says of its requests: secrets are left for the driver to read, other variables are filled in.
 */
static void requests(void) {
    static const char text[] =
        "reach:\n  - name: a.b\n    ca: ca.pem\n    target: 127.0.0.1:1\n    user: ${CONFIG_TEST_USER}\n"
        "    inject: {Authorization: '${file:~/key}', X-B: 'b ${command:c} $${d}'}\n"
        "    allow: [GET /a, 'POST /b/*']\n    deny: ['* /a/c']\n    rate: 10/m\n"
        "  - {name: c.d, replace: placeholder, inject: {A: x}}\n  - e.f\n";
    setenv("CONFIG_TEST_USER", "git", 1);
    CU_ASSERT_EQUAL(parse("dir/x", text), HT_OK);
    for (size_t i = 0; i < c.file.n_problems; i++)
        printf("# %s\n", c.file.problems[i].text);
    CU_ASSERT_EQUAL_FATAL(c.n_bindings, 3);
    const struct cli_config_policy *p = c.bindings[0].policy;
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT_STRING_EQUAL(c.bindings[0].ca, "dir/ca.pem");
    CU_ASSERT_STRING_EQUAL(p->user, "git");
    CU_ASSERT_STRING_EQUAL(p->rate, "10/m");
    CU_ASSERT_PTR_NULL(p->replace);
    CU_ASSERT_EQUAL_FATAL(p->n_names, 2);
    CU_ASSERT_STRING_EQUAL(p->names[0], "Authorization");
    CU_ASSERT_STRING_EQUAL(p->values[0], "${file:~/key}");
    CU_ASSERT_STRING_EQUAL(p->values[1], "b ${command:c} $${d}");
    CU_ASSERT_EQUAL_FATAL(p->allow.n, 2);
    CU_ASSERT_STRING_EQUAL(p->allow.texts[1], "POST /b/*");
    CU_ASSERT_EQUAL(p->deny.n, 1);
    CU_ASSERT(c.bindings[1].policy && strcmp(c.bindings[1].policy->replace, "placeholder") == 0);
    CU_ASSERT_PTR_NULL(c.bindings[2].policy);
    cli_config_free(&c);
}

/* Every row is a file with one mistake: where it is, and what is said. */
static void one_mistake_each(void) {
    static const struct {
        const char *text;
        unsigned line, column;
        const char *says;
    } rows[] = {
        {"", 1, 1, "the file is empty"},
        {"# nothing\n", 1, 1, "the file is empty"},
        {"url: wss://a\n", 1, 1, "the file asks for nothing"},
        {"expose: []\n", 1, 1, "the file asks for nothing"},
        {"- 3000\n", 1, 1, "keys and values are expected here and not a list"},
        {"3000\n", 1, 1, "keys and values are expected here and not a value"},
        {"ulr: a\nexpose: [1]\n", 1, 1, "unknown key ulr; did you mean url?"},
        {"expose: [1]\nx: {a: [1, {b: c}]}\n", 2, 1, "unknown key x; what may stand here is url, ca, pin, proxy, "},
        {"expose: [1]\n[a, b]: c\n", 2, 1, "a key is a word and not a list"},
        {"expose: [1]\nurl: a\nurl: b\n", 3, 1, "url is given twice, first on line 2"},
        {"expose: [1]\nurl:\n", 2, 5, "url has no value"},
        {"expose: [1]\nurl: ~\n", 2, 6, "url has no value"},
        {"expose: [1]\nurl: [a]\n", 2, 6, "url: one value is expected here and not a list"},
        {"expose: [1]\nurl: gopher://a\n", 2, 6, "url: \"gopher://a\""},
        {"expose: [1]\nretry-for: soon\n", 2, 12, "retry-for: \"soon\" is not a duration; write 500ms"},
        {"expose: [1]\nconnections: 17\n", 2, 14, "connections: 17 is out of range; it must be 1 to 16"},
        {"expose: [1]\nconnections: -1\n", 2, 14, "connections: \"-1\" is not a whole number"},
        {"expose: 3000\n", 1, 9, "expose: a list is expected here and not a value, as in - 3000"},
        {"expose: [x]\n", 1, 10, "the port is missing"},
        {"expose: [[1]]\n", 1, 10, "expose: one value is expected here and not a list"},
        {"expose:\n  -\n", 2, 4, "expose has no value"},
        {"expose:\n  - port: 1\n", 2, 5, "target is missing, as in target: localhost:3000"},
        {"expose:\n  - target: 1\n    prot: 2\n", 3, 5, "unknown key prot; did you mean port?"},
        {"expose:\n  - target: 1\n    host: ::1\n", 3, 5, "unknown key host"},
        {"pull:\n  - target: 1\n    takeover: true\n", 3, 5, "unknown key takeover"},
        {"pull:\n  - target: 1\n    host: 10.0.0.1\n", 2, 5, "host: \"10.0.0.1\" is not a loopback address"},
        {"expose:\n  - target: 1\n    takeover: maybe\n", 3, 15, "takeover: \"maybe\" is neither true nor false"},
        {"expose:\n  - target: 1\n    port: 65536\n", 3, 11, "port: 65536 is out of range; it must be 0 to 65535"},
        {"expose:\n  - target: 8080=1\n", 2, 13, "write that as a key, port"},
        {"expose:\n  - target: tls://a\n", 2, 13, "target: \"tls://a\": tls:// is for pull, which carries bytes"},
        {"pull:\n  - target: https://a\n", 2, 13, "target: \"https://a\": https:// is for expose"},
        {"expose:\n  - 8080:3000\n", 2, 5, "write 8080=3000 for port 8080 of the container and port 3000 here"},
        {"pull: [1, 80:db:5432]\n", 1, 11, "write 80=db:5432 for port 80 of the container and db:5432 here"},
        {"expose:\n  - port: 1\n    target: 8080:3000\n", 3, 13,
         "target: \"8080:3000\": write target: 3000, and port: 8080 for"},
        {"expose: [1, 2, 1]\n", 1, 16, "port 1 of the container is asked for twice, first on line 1"},
        {"pull: [1, {target: 2, port: 1}]\n", 1, 29, "port 1 of the container is asked for twice"},
        {"expose: [1]\nheaders: a\n", 2, 10, "headers: names, each with a text, are expected here"},
        {"expose: [1]\nheaders: {a b: c}\n", 2, 11, "\"a b\" is not a header's name"},
        {"expose: [1]\nheaders: {a: \"b\\nc\"}\n", 2, 14, "the value of a holds a character"},
        {"expose: [1]\nheaders: {a: b, A: c}\n", 2, 17, "headers: A is given twice, first on line 2"},
#define R "reach:\n  - name: a.b\n    "
        {R "inject: x\n", 3, 13, "inject: names, each with a text, are expected here"},
        {R "inject: {a b: c}\n", 3, 14, "inject: \"a b\" is not a valid name of a header field"},
        {R "inject: {A: b, Host: c}\n", 3, 20, "inject: Host cannot be set"},
        {R "inject: {A: b, a: c}\n", 3, 20, "inject: a is given twice"},
        {R "inject: {A: '${X}'}\n", 3, 14,
         "inject: A: a secret is written ${file:PATH}, ${env:NAME} or ${command:TEXT}"},
        {R "inject: {A: '${file:x}'}\n", 3, 14, "needs a path that begins with / or ~/"},
        {R "inject: {A: [b]}\n", 3, 17, "A: one value is expected here and not a list"},
        {R "allow: GET /\n", 3, 12, "allow: a list is expected here and not a value, as in [\"GET /v1/models\""},
        {R "allow: [GET /, /a]\n", 3, 20, "allow: the rule \"/a\" has no method"},
        {R "deny: [GET /a/../b]\n", 3, 12, "deny: the rule \"GET /a/../b\" has a path with //, /. or /.."},
        {R "rate: 10\n", 3, 11, "the rate \"10\" is not valid"},
        {R "user: me\n", 3, 11, "user needs a password beside it"},
        {R "user: 'a:b'\n    inject: {authorization: x}\n", 3, 11, "must not contain a colon"},
        {R "replace: placeholder\n", 3, 14, "replace needs a field to set"},
        {R "replace: short\n    inject: {A: x}\n", 3, 14, "replace: a placeholder has 8 to 512 characters"},
        {R "rate: 1/s\n    alpn: h2\n", 2, 5, "alpn: requests that are checked are HTTP/1.1"},
        {R "ca: x\n", 2, 5, "ca, cert, key, sni and alpn are for tls:// targets only"},
        {R "rate: 1/s\n    ca: x\n    target: http://a:1\n", 2, 5, "ca, cert and key are for TLS"},
        {R "rate: 1/s\n    target: tls+insecure://a:1\n", 4, 13, "target: requests are checked only for a host whose"},
        {"reach:\n  - name: '*.a.b'\n    rate: 1/s\n", 2, 11, "name: *.a.b stands for many hosts"},
#undef R
        {"expose: [1]\nurl: \"a\\0b\"\n", 2, 6, "a NUL is in it"},
        {"expose: [&a 1]\n", 1, 10, "anchors (&a) are not taken"},
        {"expose: [!!str 1]\n", 1, 10, "tags (tag:yaml.org,2002:str) are not taken"},
        {"expose: [1]\n---\nexpose: [2]\n", 2, 1, "a second document begins here"},
        {"expose: [1\n", 2, 1, "not valid YAML: "},
        {"expose: [1]\n\tx: y\n", 2, 1, "not valid YAML: "},
        {"expose: [1]\nx: [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]\n", 2, 20, "nested more than 16 deep"},
        {"\x01", 1, 1, "not valid YAML: control characters are not allowed"},
        {"expose: [1]\nx\xff: y\n", 1, 1, "not valid YAML: "},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        bool deep = strstr(rows[i].says, "nested") != NULL; /* in something unknown: two mistakes */
        CU_ASSERT_EQUAL(parse("x", rows[i].text), HT_EINVAL);
        CU_ASSERT_EQUAL(c.file.n_problems, deep ? 2 : 1);
        const struct opt_problem *p = c.file.n_problems ? &c.file.problems[c.file.n_problems - 1] : NULL;
        bool good = p && p->at.line == rows[i].line && p->at.column == rows[i].column && strstr(p->text, rows[i].says);
        CU_ASSERT(good);
        if (!good || c.file.n_problems != (deep ? 2 : 1))
            for (size_t j = 0; j < c.file.n_problems; j++)
                printf("# row %zu: %u:%u %s\n", i, c.file.problems[j].at.line, c.file.problems[j].at.column,
                       c.file.problems[j].text);
        cli_config_free(&c);
    }
}

static void all_mistakes_in_their_order(void) {
    static const char text[] = "connections: 0\nexpose:\n  - port: x\n  - 7\n  - 7\npul: []\nurl: ftp://a\n";
    static const unsigned lines[] = {1, 3, 3, 5, 6, 7};
    CU_ASSERT_EQUAL(parse("x", text), HT_EINVAL);
    CU_ASSERT_EQUAL_FATAL(c.file.n_problems, HT_ARRAY_LEN(lines));
    for (size_t i = 0; i < HT_ARRAY_LEN(lines); i++)
        CU_ASSERT_EQUAL(c.file.problems[i].at.line, lines[i]);
    cli_config_free(&c);
}

static void too_much_of_it(void) {
    struct ht_buf b = {0};
    CU_ASSERT_EQUAL(ht_buf_append_str(&b, "expose:\n"), 0);
    for (int i = 0; i < 300; i++)
        CU_ASSERT_EQUAL(ht_buf_append_str(&b, "  - 0=1\n"), 0);
    CU_ASSERT_EQUAL(cli_config_parse(&c, "x", (char *)ht_buf_head(&b), ht_buf_size(&b)), HT_EINVAL);
    CU_ASSERT_EQUAL(c.n_bindings, 256);
    CU_ASSERT_EQUAL(c.file.n_problems, 44);
    CU_ASSERT_STRING_EQUAL(c.file.problems[0].text, "expose: more than 256 are too many");
    cli_config_free(&c);
    for (int i = 0; i < 300; i++)
        CU_ASSERT_EQUAL(ht_buf_append_str(&b, "  - x\n"), 0);
    CU_ASSERT_EQUAL(cli_config_parse(&c, "x", (char *)ht_buf_head(&b), ht_buf_size(&b)), HT_EINVAL);
    CU_ASSERT_EQUAL(c.file.n_problems, OPT_PROBLEMS_MAX);
    CU_ASSERT_EQUAL(c.file.n_more, 344 - OPT_PROBLEMS_MAX);
    cli_config_free(&c);
    ht_buf_free(&b);
    char *big = ht_calloc(1, OPT_FILE_MAX + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(big);
    memset(big, '#', OPT_FILE_MAX + 1);
    CU_ASSERT_EQUAL(cli_config_parse(&c, "x", big, OPT_FILE_MAX + 1), HT_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(c.file.problems[0].text, "larger than 1048576 bytes"));
    cli_config_free(&c);
    ht_free(big);
}

static void failing_memory(void) {
    static const char text[] =
        "url: wss://a\ntoken-file: t\nheaders: {a: b, c: d}\nexpose: [1, {target: 2, label: x}]\n"
        "pull: [3]\nreach: [{name: a.b, inject: {A: '${file:/x}'}, allow: [GET /], rate: 1/s}]\n";
    size_t live = ht_mem_live();
    long i = 0;
    int rc;
    do {
        ht_mem_fail_at(i++);
        rc = parse("dir/x", text);
        ht_mem_fail_at(-1);
        CU_ASSERT(rc == HT_OK || rc == HT_ENOMEM);
        cli_config_free(&c);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
    } while (rc == HT_ENOMEM && i < 1000);
    CU_ASSERT(i > 15 && i < 1000);
}

/* As editors on Windows write them. */
static void byte_order_marks(void) {
    CU_ASSERT_EQUAL(parse("a.yaml", "\xef\xbb\xbfurl: ws://a\r\nexpose: [1]\r\n"), HT_OK);
    CU_ASSERT_STRING_EQUAL(c.top.url, "ws://a");
    cli_config_free(&c);
    CU_ASSERT_EQUAL(parse("a.yaml", "\xef\xbb\xbfulr: ws://a\nexpose: [1]\n"), HT_EINVAL);
    CU_ASSERT(c.file.n_problems == 1 && c.file.problems[0].at.line == 1 && c.file.problems[0].at.column == 1);
    cli_config_free(&c);
    CU_ASSERT_EQUAL(cli_config_parse(&c, "a.yaml",
                                     "\xff\xfe"
                                     "e\0",
                                     4),
                    HT_EINVAL);
    CU_ASSERT(c.file.n_problems == 1 && strstr(c.file.problems[0].text, "save it as UTF-8"));
    cli_config_free(&c);
}

static void variables(void) {
    setenv("HT_TEST_HOST", "kit.example", 1);
    unsetenv("HT_TEST_NONE");
    CU_ASSERT_EQUAL(parse("a.yaml", "url: wss://${HT_TEST_HOST}/${HT_TEST_NONE:-team}\n"
                                    "headers: {X-A: \"a$${b}${HT_TEST_HOST}\"}\n"
                                    "expose: [\"${HT_TEST_NONE:-3000}\"]\n"),
                    HT_OK);
    CU_ASSERT_STRING_EQUAL(c.top.url, "wss://kit.example/team");
    CU_ASSERT_STRING_EQUAL(c.headers[0], "X-A: a${b}kit.example");
    CU_ASSERT_EQUAL(c.bindings[0].container_port, 3000);
    cli_config_free(&c);
    static const struct {
        const char *text;
        unsigned column;
        const char *says;
    } rows[] = {
        {"url: \"x${HT_TEST_NONE}\"\n", 6, "url: the variable HT_TEST_NONE is not set; ${HT_TEST_NONE:-text} says"},
        {"url: \"${\"\n", 6, "url: a variable is written ${NAME}"},
        {"url: \"${}\"\n", 6, "url: a variable is written ${NAME}"},
        {"url: \"${A B}\"\n", 6, "url: a variable is written ${NAME}"},
        {"url: \"${A:+x}\"\n", 6, "url: a variable is written ${NAME}"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char text[200];
        snprintf(text, sizeof text, "%sexpose: [1]\n", rows[i].text);
        CU_ASSERT_EQUAL(parse("a.yaml", text), HT_EINVAL);
        CU_ASSERT_EQUAL(c.file.n_problems, 1);
        CU_ASSERT(c.file.problems[0].at.line == 1 && c.file.problems[0].at.column == rows[i].column);
        CU_ASSERT_PTR_NOT_NULL(strstr(c.file.problems[0].text, rows[i].says));
        cli_config_free(&c);
    }
}

static void files(void) {
    struct ht_errmsg err;
    CU_ASSERT_EQUAL(cli_config_load(&c, "/nonexistent/x.yaml", &err), HT_EIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "/nonexistent/x.yaml cannot be opened: No such file"));
    cli_config_free(&c);
    CU_ASSERT_EQUAL(cli_config_load(&c, "/", &err), HT_EIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "directory"));
    cli_config_free(&c);
    CU_ASSERT_EQUAL(cli_config_load(&c, "/dev/null", &err), HT_EINVAL);
    cli_config_free(&c);
}

static const struct tap_test tests[] = {
    {"every key of a file without mistakes is read", a_good_file},
    {"the rules for requests in items of reach are read", requests},
    {"each kind of mistake has its message and place", one_mistake_each},
    {"all mistakes are reported, in the order of the file", all_mistakes_in_their_order},
    {"a file that is too large is refused", too_much_of_it},
    {"each allocation may fail", failing_memory},
    {"a byte order mark is accepted, other encodings are refused", byte_order_marks},
    {"${NAME} and ${NAME:-default} are replaced", variables},
    {"files that cannot be read are reported", files},
    {NULL, NULL},
};

int main(void) { return tap_main("cli, config", tests); }
