/* Destinations that clients of the CONNECT proxy name, rules about them, and addresses that are not what they seem. */
#include "relay/dest.h"
#include "support/tap.h"

#include <stdio.h>

/* ---- destinations ---- */

static void a_destination_is_read_into_one_spelling(void) {
    static const struct {
        const char *in, *text;
        bool is_addr;
    } good[] = {
        {"example.com:443", "example.com:443", false},   {"EXAMPLE.Com:443", "example.com:443", false},
        {"example.com.:443", "example.com:443", false}, /* one dot at the end: the same name */
        {"a_b.example:1", "a_b.example:1", false},       {"3com.example:65535", "3com.example:65535", false},
        {"192.0.2.1:80", "192.0.2.1:80", true},          {"[2001:DB8::1]:80", "[2001:db8::1]:80", true},
        {"[::ffff:192.0.2.1]:80", "192.0.2.1:80", true}, {"192.0.2.1.:80", "192.0.2.1:80", true},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++) {
        struct relay_dest d;
        const char *why = "";
        CU_ASSERT_EQUAL(relay_dest_parse(&d, ht_slice_str(good[i].in), 0, &why), 0);
        if (strcmp(d.text, good[i].text) != 0)
            printf("# %s: %s (%s)\n", good[i].in, d.text, why);
        CU_ASSERT_STRING_EQUAL(d.text, good[i].text);
        CU_ASSERT_EQUAL(d.is_addr, good[i].is_addr);
    }
    struct relay_dest d;
    const char *why;
    CU_ASSERT_EQUAL(relay_dest_parse(&d, ht_slice_str("example.com"), 80, &why), 0);
    CU_ASSERT_STRING_EQUAL(d.text, "example.com:80");
    CU_ASSERT_EQUAL(relay_dest_parse(&d, ht_slice_str("[::1]"), 80, &why), 0);
    CU_ASSERT_STRING_EQUAL(d.text, "[::1]:80");
}

static void test_bad(void) {
    static const char *const bad[] = {
        "", ":", ":80", "a", "a:", "a:0", "a:65536", "a:-1", "a:+80", "a:0x50", "a:80:80", "a:8 0", " a:80", "a b:80",
        "a..b:80", ".a:80", ".:80", "a..:80", "::1:80", "[::1:80", "[]:80", "[a]:80", "[127.0.0.1]:80", "[::1]80",
        "[fe80::1%eth0]:80", "a@b:80", "a/b:80", "a%2eb:80", "a,b:80", "b\xc3\xbc.example:80",
        /* what inet_aton() and browsers take for an IPv4 address */
        "127.1:80", "127.0.1:80", "2130706433:80", "0x7f.0.0.1:80", "0x7f000001:80", "0177.0.0.1:80", "010.0.0.1:80",
        "127.0.0.0x1:80", "1.2.3.08:80", "256.1.1.1:80", "1.2.3:80", "0:80", "a.0x:80", "127.1.:80", "0X7F.1:80",
        /* a label of 64 bytes */
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example:80"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct relay_dest d;
        const char *why = NULL;
        int rc = relay_dest_parse(&d, ht_slice_str(bad[i]), 0, &why);
        if (rc == 0)
            printf("# taken: %s as %s\n", bad[i], d.text);
        CU_ASSERT_EQUAL(rc, HT_EINVAL);
        CU_ASSERT(why && *why);
    }
    struct relay_dest d;
    const char *why;
    CU_ASSERT_EQUAL(relay_dest_parse(&d, ht_slice_of("a\0b:80", 6), 0, &why), HT_EINVAL);
    char longest[400];
    memset(longest, 'a', sizeof longest);
    CU_ASSERT_EQUAL(relay_dest_parse(&d, ht_slice_of(longest, sizeof longest), 80, &why), HT_EINVAL);
    for (size_t i = 50; i < sizeof longest; i += 51)
        longest[i] = '.';
    CU_ASSERT_EQUAL(relay_dest_parse(&d, ht_slice_of(longest, 253), 80, &why), 0);
    CU_ASSERT_EQUAL(relay_dest_parse(&d, ht_slice_of(longest, 254), 80, &why), HT_EINVAL);
}

/* ---- the policy ---- */

static struct relay_rule allow[8], deny[8];
static struct relay_policy p;

static size_t add(struct relay_rule *to, const char *const *texts) {
    size_t n = 0;
    struct ht_errmsg err;
    for (; texts && texts[n]; n++)
        CU_ASSERT_EQUAL_FATAL(relay_rule_parse(&to[n], texts[n], &err), 0);
    return n;
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void policy(bool pass, const char *const *allowed, const char *const *denied) {
    p = (struct relay_policy){.pass = pass, .allow = allow, .deny = deny, .own_ports = {50, 9090}};
    p.n_allow = add(allow, allowed);
    p.n_deny = add(deny, denied);
}

/* Whether `host`, which was resolved to `addr`, may be connected to. */
static bool may_be(const char *host, const char *addr, uint16_t port, bool own) {
    struct relay_dest d;
    struct io_addr a;
    const char *why = NULL;
    CU_ASSERT_EQUAL_FATAL(relay_dest_set(&d, ht_slice_str(host), port, &why), 0);
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, addr, port), 0);
    return !relay_policy_name(&p, &d) && !relay_policy_addr(&p, &d, &a, own);
}

static bool may(const char *host, const char *addr, uint16_t port) { return may_be(host, addr, port, false); }

/* Hardening case 35: every way to write an address that leads into this machine, or to what trusts whoever asks. */
static const char *const guarded[] = {
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "100.100.100.200",
    "168.63.129.16", "192.0.0.192", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1",
    "fe80::1", "febf::1", "fec0::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
    /* IPv4 inside: mapped, compatible, translated, NAT64, 6to4, Teredo's server and its client, ISATAP */
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::127.0.0.1", "::169.254.169.254", "::8.8.8.8",
    "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "2002:7f00:1::1",
    "2002:a9fe:a9fe::1", "2001:0:7f00:1::", "2001:0:808:808:0:0:80ff:fffe", "2001:0:808:808:0:0:5601:5601",
    "2001:db8::5efe:127.0.0.1", "2001:db8::200:5efe:169.254.169.254"};

static const char *const open_addr[] = {"8.8.8.8",
                                        "10.1.2.3",
                                        "172.17.0.2",
                                        "192.168.1.1",
                                        "100.64.0.1",
                                        "126.255.255.255",
                                        "128.0.0.1",
                                        "169.253.0.1",
                                        "169.255.0.1",
                                        "223.255.255.255",
                                        "192.0.1.1",
                                        "2001:db8::1",
                                        "fd00::1",
                                        "fe7f::1",
                                        "2606:4700::1111",
                                        "64:ff9b::8.8.8.8",
                                        "2002:808:808::1",
                                        "::ffff:8.8.8.8",
                                        "2001:0:808:808:0:0:f7f7:f7f7",
                                        "2001:db8::5efe:8.8.8.8"};

static void guarded_addresses_are_refused_in_every_form_others(void) {
    policy(true, NULL, NULL);
    for (size_t i = 0; i < HT_ARRAY_LEN(guarded); i++) {
        bool yes = may("innocent.example", guarded[i], 80) || may(guarded[i], guarded[i], 80);
        if (yes)
            printf("# may connect to %s\n", guarded[i]);
        CU_ASSERT(!yes);
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(open_addr); i++) {
        if (!may("innocent.example", open_addr[i], 80))
            printf("# connecting to %s is not allowed\n", open_addr[i]);
        CU_ASSERT(may("innocent.example", open_addr[i], 80));
    }
}

static void test_only_meant(void) {
    /* Neither a name, nor everything, nor a network that only happens to hold it opens what is guarded. */
    policy(true, LIST("innocent.example", "*.example", "*", "0.0.0.0/0", "::/0", "126.0.0.0/7", "0.0.0.0/1"), NULL);
    for (size_t i = 0; i < HT_ARRAY_LEN(guarded); i++)
        CU_ASSERT(!may("innocent.example", guarded[i], 80));
    policy(true, LIST("127.0.0.0/8:8000-8999", "169.254.169.254", "[::1]:8080"), NULL);
    CU_ASSERT(may("x.example", "127.0.0.1", 8000));
    CU_ASSERT(may("x.example", "::ffff:127.0.0.1", 8999));
    CU_ASSERT(!may("x.example", "127.0.0.1", 9000));
    CU_ASSERT(may("x.example", "169.254.169.254", 80));
    CU_ASSERT(!may("x.example", "169.254.169.253", 80));
    CU_ASSERT(may("::1", "::1", 8080));
    CU_ASSERT(!may("::1", "::1", 8081));
    CU_ASSERT(!may("x.example", "::127.0.0.1", 8000)); /* its other face is reserved */
}

static void test_own(void) {
    policy(true, LIST("172.16.0.0/12", "172.17.0.9:7000", "127.0.0.1"), NULL);
    CU_ASSERT(may_be("x.example", "172.17.0.2", 80, false));
    CU_ASSERT(!may_be("x.example", "172.17.0.2", 80, true)); /* a network is not enough */
    CU_ASSERT(may_be("x.example", "172.17.0.9", 7000, true));
    CU_ASSERT(!may_be("x.example", "172.17.0.9", 7001, true));
    CU_ASSERT(!may_be("x.example", "2001:db8::1", 80, true));
    /* The kit's own ports have to be named. */
    CU_ASSERT(may("x.example", "127.0.0.1", 51));
    CU_ASSERT(!may("x.example", "127.0.0.1", 50));
    CU_ASSERT(!may("x.example", "127.0.0.1", 9090));
    CU_ASSERT(may("x.example", "8.8.8.8", 50));
    policy(true, LIST("127.0.0.1:50", "127.0.0.1:9000-9100", "172.17.0.9"), NULL);
    CU_ASSERT(may("x.example", "127.0.0.1", 50));
    CU_ASSERT(!may("x.example", "127.0.0.1", 9090));
    CU_ASSERT(!may_be("x.example", "172.17.0.9", 50, true));
    CU_ASSERT(may_be("x.example", "172.17.0.9", 51, true));
}

static void test_default_deny(void) {
    policy(false, NULL, NULL);
    CU_ASSERT(!may("a.example", "8.8.8.8", 443));
    CU_ASSERT(!may("8.8.8.8", "8.8.8.8", 443));
    policy(false, LIST("a.example", "*.b.example:443", "10.0.0.0/8:8080", "*:7777"), NULL);
    CU_ASSERT(may("a.example", "8.8.8.8", 1));
    CU_ASSERT(may("A.example.", "8.8.8.8", 443));
    CU_ASSERT(!may("xa.example", "8.8.8.8", 443));
    CU_ASSERT(!may("x.a.example", "8.8.8.8", 443));
    CU_ASSERT(may("x.b.example", "8.8.8.8", 443));
    CU_ASSERT(may("x.y.b.example", "8.8.8.8", 443));
    CU_ASSERT(!may("b.example", "8.8.8.8", 443));
    CU_ASSERT(!may("xb.example", "8.8.8.8", 443));
    CU_ASSERT(!may("x.b.example", "8.8.8.8", 444));
    CU_ASSERT(may("any.name", "10.1.2.3", 8080)); /* by its address */
    CU_ASSERT(!may("any.name", "11.1.2.3", 8080));
    CU_ASSERT(may("any.name", "8.8.8.8", 7777));
    CU_ASSERT(may("8.8.8.8", "8.8.8.8", 7777));
    CU_ASSERT(!may("a.example", "127.0.0.1", 443)); /* DNS rebinding */
}

static void deny_goes_before_allow(void) {
    policy(true, LIST("good.example", "10.1.0.0/16"),
           LIST("bad.example", "*.evil.example", "10.0.0.0/8", "*:25", "fd00::/8"));
    CU_ASSERT(!may("bad.example", "8.8.8.8", 80));
    CU_ASSERT(!may("BAD.example.", "8.8.8.8", 80));
    CU_ASSERT(!may("x.evil.example", "8.8.8.8", 80));
    CU_ASSERT(may("evil.example", "8.8.8.8", 80));
    CU_ASSERT(!may("good.example", "8.8.8.8", 25));
    CU_ASSERT(!may("8.8.8.8", "8.8.8.8", 25));
    CU_ASSERT(!may("good.example", "10.1.2.3", 80)); /* deny goes first */
    CU_ASSERT(!may("good.example", "::ffff:10.1.2.3", 80));
    CU_ASSERT(!may("good.example", "64:ff9b::10.1.2.3", 80));
    CU_ASSERT(!may("good.example", "2002:a01:203::", 80));
    CU_ASSERT(!may("good.example", "fd12::1", 80));
    CU_ASSERT(may("good.example", "fe00::1", 80));
}

static void a_rule_that_nobody_could_mean_is_refused(void) {
    static const char *const bad[] = {"",
                                      ":",
                                      ":80",
                                      "a:",
                                      "a:0",
                                      "a:65536",
                                      "a:2-1",
                                      "a:1-",
                                      "a:-1",
                                      "*.",
                                      "*.:80",
                                      "**",
                                      "*a",
                                      "a*",
                                      "*.*.a",
                                      "a.*",
                                      "10.0.0.0/33",
                                      "10.0.0.0/",
                                      "10.0.0/8",
                                      "127.1",
                                      "fd00::/129",
                                      "[fd00::/8",
                                      "[a]:80",
                                      "[10.0.0.0/8]:80",
                                      "[fd00::/8]80",
                                      "fd00::/8:80",
                                      "a b",
                                      "http://a",
                                      "a/b",
                                      "a:80:80",
                                      "a..b",
                                      "[]",
                                      "-a.example",
                                      "a-.example",
                                      "0x7f.1"};
    struct relay_rule r;
    struct ht_errmsg err;
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        err.text[0] = '\0';
        int rc = relay_rule_parse(&r, bad[i], &err);
        if (rc == 0)
            printf("# taken: %s\n", bad[i]);
        CU_ASSERT_EQUAL(rc, HT_EINVAL);
        CU_ASSERT(strstr(err.text, "is no destination") != NULL);
    }
    CU_ASSERT_EQUAL(relay_rule_parse(&r, "*.Example.com.:80-90", &err), 0);
    CU_ASSERT(r.kind == RULE_BELOW && strcmp(r.host, ".example.com") == 0 && r.first == 80 && r.last == 90);
    CU_ASSERT_EQUAL(relay_rule_parse(&r, "fd00::/8", &err), 0);
    CU_ASSERT(r.kind == RULE_NET && r.family == 6 && r.bits == 8 && r.first == 1 && r.last == 65535);
    CU_ASSERT_EQUAL(relay_rule_parse(&r, "[fd00::/8]:443", &err), 0);
    CU_ASSERT(r.kind == RULE_NET && r.family == 6 && r.bits == 8 && r.first == 443 && r.last == 443);
    CU_ASSERT_EQUAL(relay_rule_parse(&r, "*:*", &err), 0);
    CU_ASSERT(r.kind == RULE_ANY && r.first == 1 && r.last == 65535);
    CU_ASSERT_EQUAL(relay_rule_parse(&r, "10.9.8.7/0:25", &err), 0);
    CU_ASSERT(r.kind == RULE_NET && r.bits == 0 && r.first == 25);
}

static const struct tap_test tests[] = {
    {"a destination is read into one spelling", a_destination_is_read_into_one_spelling},
    {"what is no destination, other forms of addresses among it", test_bad},
    {"guarded addresses are refused in every form, others are not", guarded_addresses_are_refused_in_every_form_others},
    {"what is guarded opens only to who means it", test_only_meant},
    {"own addresses and ports need a rule that names them", test_own},
    {"with a default of deny only the rules allow", test_default_deny},
    {"deny goes before allow", deny_goes_before_allow},
    {"a rule that nobody could mean is refused", a_rule_that_nobody_could_mean_is_refused},
    {NULL, NULL},
};

int main(void) { return tap_main("dest", tests); }
