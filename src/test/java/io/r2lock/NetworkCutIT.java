package io.r2lock;

import static java.util.Objects.requireNonNull;
import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A network that is cut silently in both directions: who knows of it, and when. */
class NetworkCutIT {

    private static final Logger LOG = LoggerFactory.getLogger(NetworkCutIT.class);

    private static final int CUTS = Boolean.getBoolean("long") ? 20 : 1;
    private static final int HOLDERS = 5;
    private static final long HOLD_MILLIS = Duration.ofHours(1).toMillis();
    private static final Duration PATIENCE = Duration.ofSeconds(30);

    private static final Duration HEARTBEAT = Duration.ofSeconds(2);
    private static final Duration TOLD_WITHIN = Duration.ofSeconds(5);
    private static final Duration FREE_AFTER = Duration.ofSeconds(8);
    private static final Duration FREE_BEFORE = Duration.ofSeconds(13);
    private static final Duration SCHEDULING = Duration.ofMillis(500);

    private final CuttableNetwork network = CuttableNetwork.create();
    private final TestServer server = TestServer.ownOn(network);

    @RegisterExtension
    final NoResidue residue = NoResidue.on().patience(Duration.ofSeconds(20));

    private int nextKey = 1;

    @AfterEach
    void stop() {
        server.close();
        network.close();
    }

    private LabChild process(Path directory, String name, List<String> inside, String host) {
        Map<String, ?> options = Map.of(
                "role", "told", "scope", "transaction", "host", host, "port", server.port(), "seconds", 60 + CUTS * 40);
        return LabChild.start(directory, name, inside, options);
    }

    @Test
    void holderIsToldBeforeTheServerFreesTheLock_andAnotherProcessGetsItThen() throws SQLException {
        residue.watch(server);
        long start = System.nanoTime();
        Path directory = LabChild.directory("network-cut");
        try (LabChild holder = process(directory, "holder", network.inside(), network.serverHost());
                LabChild waiter = process(directory, "waiter", List.of(), server.host())) {
            holder.awaitReady(start);
            waiter.awaitReady(start);
            for (int i = 0; i < CUTS; i++) {
                cutAll(holder, waiter);
            }
            holder.end();
            waiter.end();
            residue.check();
        }
    }

    private void cutAll(LabChild holder, LabChild waiter) throws SQLException {
        List<Long> keys = new ArrayList<>();
        Map<Long, Integer> backends = new HashMap<>();
        for (int client = 0; client < HOLDERS; client++) {
            long key = nextKey++;
            keys.add(key);
            holder.command("hold " + client + " " + key + " " + HOLD_MILLIS);
            backends.put(key, holder.awaitHold(key, PATIENCE).backend());
            waiter.command("hold " + client + " " + key + " 10");
        }
        awaitWaiting(HOLDERS);
        // keepalives and heartbeats have phases: each cut meets others
        Await.rest(Duration.ofMillis(ThreadLocalRandom.current().nextInt(5_000)));

        network.cut();
        long cut = System.nanoTime();
        Map<Long, Long> freed = awaitFreed(backends);
        keys.forEach(key -> waiter.awaitHold(key, PATIENCE));
        network.heal();

        for (long key : keys) {
            LabHold old = holder.awaitHold(key, PATIENCE);
            LabHold now = waiter.awaitHold(key, PATIENCE);
            long freedAt = requireNonNull(freed.get(key));
            Duration told = Duration.ofNanos(old.end() - cut);
            Duration free = Duration.ofNanos(freedAt - cut);
            LOG.info(
                    "cut: holder's work ended after {} ms, lock free on the server after {} ms, next holder began after {} ms",
                    old.hasEnd() ? told.toMillis() : "ever:",
                    free.toMillis(),
                    (now.begin() - cut) / 1_000_000);
            assertThat(old.hasEnd()).as("the holder was told").isTrue();
            assertThat(told).isPositive().isLessThanOrEqualTo(TOLD_WITHIN);
            assertThat(free).isBetween(FREE_AFTER, FREE_BEFORE.plus(SCHEDULING));
            assertThat(now.begin()).isGreaterThan(old.end()).isLessThan(freedAt + SCHEDULING.toNanos());
            assertThat(old.outcome()).isEqualTo(LabHold.Outcome.LOST);
        }
    }

    @Test
    void lockConnectionThatIsCutAlone_isToldOneHeartbeatAfterTheServerFreedIt() throws SQLException {
        residue.watch(server);
        long start = System.nanoTime();
        Path directory = LabChild.directory("connection-cut");
        try (LabChild holder = process(directory, "half-cut", network.inside(), network.serverHost())) {
            holder.awaitReady(start);
            Map<Long, Integer> backends = new HashMap<>();
            for (int client = 0; client < HOLDERS; client++) {
                long key = nextKey++;
                holder.command("hold " + client + " " + key + " " + HOLD_MILLIS);
                backends.put(key, holder.awaitHold(key, PATIENCE).backend());
            }
            String heartbeats =
                    "select pid from pg_stat_activity where application_name like '%half-cut heartbeat' order by pid";
            Await.until(
                    "a heartbeat connection of each client",
                    () -> server.query(heartbeats).size() == HOLDERS);
            List<?> before = server.query(heartbeats);

            long cut = System.nanoTime();
            backends.values()
                    .forEach(backend -> network.cutPort(
                            (int) server.count("select client_port from pg_stat_activity where pid = " + backend)));
            Map<Long, Long> freed = awaitFreed(backends);
            backends.keySet().forEach(key -> assertToldAfter(requireNonNull(freed.get(key)), cut, holder, key));
            assertThat((Object) server.query(heartbeats))
                    .as("heartbeat connections")
                    .isEqualTo(before);
            network.heal();
            holder.end();
            residue.check();
        }
    }

    private static void assertToldAfter(long freedAt, long cut, LabChild holder, long key) {
        LabHold hold = Await.value(
                () -> holder.awaitHold(key, PATIENCE), one -> one.outcome() != LabHold.Outcome.NONE, PATIENCE);
        assertThat(hold.hasEnd()).as("the holder was told").isTrue();
        Duration window = Duration.ofNanos(hold.end() - freedAt);
        LOG.info(
                "lock connection cut alone: free on the server after {} ms, holder told {} ms later",
                (freedAt - cut) / 1_000_000,
                window.toMillis());
        assertThat(window).isLessThanOrEqualTo(HEARTBEAT.plus(SCHEDULING));
        assertThat(hold.outcome()).isEqualTo(LabHold.Outcome.LOST);
    }

    private void awaitWaiting(int count) {
        Await.until(
                count + " waiting",
                () -> server.count("select count(*) from pg_locks where locktype = 'advisory' and not granted")
                        == count);
    }

    /** For each key, when its backend was first seen without a lock. */
    private Map<Long, Long> awaitFreed(Map<Long, Integer> backends) throws SQLException {
        Map<Long, Long> freed = new HashMap<>();
        try (Connection connection = server.connect();
                PreparedStatement locks = connection.prepareStatement(
                        "select pid from pg_locks where locktype = 'advisory' and granted")) {
            Await.value(
                    () -> {
                        Set<Integer> holding = pids(locks);
                        backends.forEach((key, pid) -> {
                            if (!holding.contains(pid)) {
                                freed.putIfAbsent(key, System.nanoTime());
                            }
                        });
                        return freed.size();
                    },
                    count -> count == backends.size(),
                    PATIENCE);
        }
        assertThat(freed).as("keys freed by the server").hasSize(backends.size());
        return freed;
    }

    private static Set<Integer> pids(PreparedStatement locks) {
        try (ResultSet rows = locks.executeQuery()) {
            Set<Integer> pids = new HashSet<>();
            while (rows.next()) {
                pids.add(rows.getInt(1));
            }
            return pids;
        } catch (SQLException e) {
            throw new IllegalStateException(e);
        }
    }
}
