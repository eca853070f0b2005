"""A name with an address in each family, of which one is a hole that swallows everything: what it costs a driver and the commands."""

from tests.integration.harness import BIN, Moment, eventually
from tests.integration.machines import container_and_laptop
from tests.support.tap import case, main


@case("an IPv6 address that swallows everything costs about 300 ms, and the kit is reached over IPv4")
def _():
    with container_and_laptop() as (container, laptop):
        # Packets to 2001:db8::99 leave by a device at whose other end nobody answers. It comes first: the laptop has an address beside it.
        laptop.run("sh", "-c", "ip link add hole type veth peer name end && ip link set end up && ip link set hole arp off up && ip addr add 2001:db8::1/64 dev hole nodad && "
                   "printf '2001:db8::99 kit.test\\n192.0.2.1 kit.test\\n' > /tmp/hosts && mount --bind /tmp/hosts /etc/hosts && "
                   "printf 'hosts: files\\n' > /tmp/nss && mount --bind /tmp/nss /etc/nsswitch.conf")
        assert laptop.run("getent", "ahosts", "kit.test").split()[0] == "2001:db8::99"
        kit = container.start(BIN, "serve", "--listen", "192.0.2.1:8050", "--insecure-listen")
        try:
            kit.wait_line("listening")
            for url in ("ws://192.0.2.1:8050", "ws://kit.test:8050"):
                moment = Moment()
                laptop.run(BIN, "health", "--url", url)
                moment.within(0.45 if "kit" in url else 0.2, url, slack=2.0)  # an address after the other would take a third of 10 s
            moment = Moment()
            driver = laptop.start(BIN, "pull", "0=5432", "--url", "ws://kit.test:8050", "--json")
            driver.wait_line('"bound"')
            moment.within(0.6, "a tunnel that is up and bound")
            eventually(lambda: "SYN-SENT" not in laptop.run("ss", "-Htan"), "the attempt that lost has ended")
            assert driver.end() == 0, driver.text()
            # Nothing listens there: both attempts are told.
            said = laptop.run("sh", "-c", f"{BIN} health --url ws://kit.test:9 --timeout 1s 2>&1; true")
            assert "[2001:db8::99]:9: no answer" in said and "192.0.2.1:9: connection refused" in said, said
        finally:
            assert kit.end() == 0, kit.text()


if __name__ == "__main__":
    main()
