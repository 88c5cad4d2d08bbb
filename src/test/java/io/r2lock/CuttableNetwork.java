package io.r2lock;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;

/**
 * A network of network namespaces that can be cut without a sign: client, router, and this host as the server's side.
 *
 * <p>The cut is made in the router, by a routing rule that discards what it forwards: neither end sees an error, a reset or
 * an ICMP message, and each kernel answers nothing for the other, which a proxy cannot do. A rule in the client's or the
 * server's own namespace would show there as a failed send.
 *
 * <p>Needs root and {@code ip}; where that is missing, the test is skipped and says so.
 */
final class CuttableNetwork implements AutoCloseable {

    private static final String PREFIX = "r2lock-";
    private static final int SLOTS = 1 << 13; // blocks of eight addresses in 10.201.0.0/16
    private static final int COMMAND_SECONDS = 20;

    private final int slot;
    private final String client;
    private final String router;
    private final Deque<List<String>> cuts = new ArrayDeque<>();

    private CuttableNetwork(int slot) {
        this.slot = slot;
        String name = PREFIX + slot + "-" + ProcessHandle.current().pid();
        this.client = name + "-client";
        this.router = name + "-router";
    }

    /** A network of its own, not cut. */
    static CuttableNetwork create() {
        removeLeftOvers();
        String failure = "no free address";
        for (int attempt = 0; attempt < 20; attempt++) {
            CuttableNetwork network =
                    new CuttableNetwork(ThreadLocalRandom.current().nextInt(SLOTS));
            try {
                network.build();
                return network;
            } catch (IllegalStateException e) {
                failure = String.valueOf(e.getMessage());
                network.close();
            }
        }
        return Assumptions.abort("skipped, it needs root and `ip` (iproute2) with network namespaces: " + failure);
    }

    /** The address of this host that the inside can reach. */
    String serverHost() {
        return address(1);
    }

    /** The addresses of this network, as {@code pg_hba.conf} wants them. */
    String range() {
        return address(0) + "/29";
    }

    /** What to put before a command so that it runs inside; the process keeps the id that it was started with. */
    List<String> inside() {
        return List.of("ip", "netns", "exec", client);
    }

    /** Discards all packets in both directions until {@link #heal()}. */
    synchronized void cut() {
        addCut(List.of());
    }

    /** Discards the packets of connections with these ports of the client, in both directions, until {@link #heal()}. */
    synchronized void cutPort(int clientPort) {
        for (String end : List.of("sport", "dport")) {
            addCut(List.of("ipproto", "tcp", end, Integer.toString(clientPort)));
        }
    }

    synchronized void heal() {
        while (!cuts.isEmpty()) {
            ip(rule("del", cuts.element()));
            cuts.remove();
        }
    }

    /** Removes it all; processes that still run inside are left without a network. */
    @Override
    public void close() {
        for (String name : List.of(client, router)) {
            if (names().contains(name)) {
                ip("netns", "del", name);
            }
        }
    }

    /** The network namespaces there are. */
    static List<String> names() {
        return ip("netns", "list")
                .lines()
                .map(line -> line.split(" ", 2)[0])
                .filter(name -> !name.isEmpty())
                .toList();
    }

    private void build() {
        ip("netns", "add", client);
        ip("netns", "add", router);
        String host = "r2lock" + slot; // the kernel refuses it if another network has the same addresses
        ip("link", "add", host, "type", "veth", "peer", "name", "server", "netns", router);
        ip("-n", router, "link", "add", "client", "type", "veth", "peer", "name", "router", "netns", client);
        ip("addr", "add", address(1) + "/30", "dev", host);
        ip("link", "set", host, "up");
        ip("-n", router, "addr", "add", address(2) + "/30", "dev", "server");
        ip("-n", router, "link", "set", "server", "up");
        ip("-n", router, "addr", "add", address(5) + "/30", "dev", "client");
        ip("-n", router, "link", "set", "client", "up");
        ip("-n", client, "addr", "add", address(6) + "/30", "dev", "router");
        ip("-n", client, "link", "set", "router", "up");
        ip("-n", client, "link", "set", "lo", "up");
        ip("-n", client, "route", "add", "default", "via", address(5));
        ip("route", "add", address(4) + "/30", "via", address(2), "dev", host);
        ip("netns", "exec", router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
    }

    private void addCut(List<String> selector) {
        ip(rule("add", selector));
        cuts.add(selector);
    }

    private String[] rule(String action, List<String> selector) {
        List<String> command = new ArrayList<>(List.of("-n", router, "rule", action, "pref", "1"));
        command.addAll(selector);
        command.add("blackhole");
        return command.toArray(String[]::new);
    }

    private String address(int offset) {
        int number = slot * 8 + offset;
        return "10.201." + (number >> 8) + "." + (number & 0xff);
    }

    /** A test JVM that was killed could not remove its own. */
    private static void removeLeftOvers() {
        try {
            for (String name : names()) {
                String[] parts = name.split("-", -1);
                if (name.startsWith(PREFIX)
                        && parts.length == 4
                        && ProcessHandle.of(Long.parseLong(parts[2])).isEmpty()) {
                    ip("netns", "del", name);
                }
            }
        } catch (IllegalStateException e) {
            Assumptions.abort("skipped, it needs `ip` (iproute2) with network namespaces: " + e.getMessage());
        }
    }

    private static String ip(String... arguments) {
        List<String> command = new ArrayList<>(List.of("ip"));
        command.addAll(List.of(arguments));
        try {
            Process process =
                    new ProcessBuilder(command).redirectErrorStream(true).start();
            String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            if (!process.waitFor(COMMAND_SECONDS, TimeUnit.SECONDS) || process.exitValue() != 0) {
                process.destroyForcibly();
                throw new IllegalStateException(String.join(" ", command) + ": " + output.strip());
            }
            return output;
        } catch (IOException e) {
            throw new IllegalStateException(String.join(" ", command) + ": " + e.getMessage(), e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new UncheckedIOException(new IOException(e));
        }
    }
}
