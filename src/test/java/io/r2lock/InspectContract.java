package io.r2lock;

import static io.r2lock.Inspections.in;
import static io.r2lock.Inspections.look;
import static io.r2lock.Inspections.only;
import static io.r2lock.LockInfo.State.HELD;
import static io.r2lock.LockInfo.State.WAITING_HERE;
import static io.r2lock.LockInfo.State.WAITING_ON_SERVER;
import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.Disposable;
import reactor.core.Disposables;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** What {@code inspect()} shows, held against what the server shows to others. */
abstract class InspectContract {

    private static final Logger LOG = LoggerFactory.getLogger(InspectContract.class);

    private static final LockKey A = LockKey.named("inspected", "a");
    private static final LockKey B = LockKey.named("inspected", "b");

    private static final LockKey HOT = LockKey.named("order", "n0");

    private static final String SHOWN = """
            select concat_ws(' ', l.objsubid, (l.classid::int8 << 32) | l.objid::int8, l.mode, l.granted, l.pid, a.application_name,
                    case when not l.granted then (select array_agg(p order by p) from unnest(pg_blocking_pids(l.pid)) p) end) as shown
            from pg_locks l join pg_stat_activity a using (pid)
            where l.locktype = 'advisory' and l.database = (select oid from pg_database where datname = current_database())""";

    final TestServer server;
    final Sessions sessions;
    private final Disposable.Composite waits = Disposables.composite();

    @RegisterExtension
    @Order(2)
    final NoResidue residue;

    @RegisterExtension
    @Order(1)
    final TestClients clients;

    InspectContract(TestServer server) {
        this.server = server;
        sessions = new Sessions(server);
        residue = NoResidue.on(server);
        clients = new TestClients(residue);
    }

    @AfterEach
    void close() {
        waits.dispose();
        sessions.close();
    }

    /** As {@link #SHOWN}. */
    private static String text(LockInfo lock) {
        String blockedBy = lock.blockedBy().stream().map(String::valueOf).collect(Collectors.joining(",", "{", "}"));
        return String.join(
                " ",
                lock.key().isPair() ? "2" : "1",
                String.valueOf(lock.key().value()),
                lock.mode() == LockMode.EXCLUSIVE ? "ExclusiveLock" : "ShareLock",
                lock.state() == HELD ? "t" : "f",
                String.valueOf(lock.pid().orElseThrow()),
                lock.application().orElseThrow()
                        + (lock.state() == HELD && lock.blockedBy().isEmpty() ? "" : " " + blockedBy));
    }

    private Set<String> shown() {
        return server.query(SHOWN).stream()
                .map(row -> String.valueOf(row.get("shown")))
                .collect(Collectors.toSet());
    }

    private void waiting(LockRequest request) {
        waits.add(request.guard(Mono.never()).subscribe());
    }

    @Test
    void thousandHolds_tenWaits_andAThousandWaiters_areAsTheServerShowsThem_andSayWhoBlocksWhom() {
        DefaultAdvisoryLocks billing = clients.open(server, builder -> builder.applicationName("billing"));
        DefaultAdvisoryLocks reports = clients.open(
                server, builder -> builder.applicationName("reports").maxConnections(11));
        List<HeldLock> holds = Objects.requireNonNull(Flux.range(0, 1_000)
                .flatMap(
                        i -> billing.exclusive(LockKey.named("order", "n" + i))
                                .inSession()
                                .acquire(),
                        1_000)
                .collectList()
                .block(PATIENCE));
        for (int i = 0; i < 10; i++) {
            waiting(reports.shared(LockKey.named("order", "n" + i)));
        }
        sessions.awaitWaiting(10);
        for (int i = 0; i < 1_000; i++) {
            waiting(billing.exclusive(HOT).inSession());
        }

        long start = System.nanoTime();
        List<LockInfo> seen = look(billing);
        LOG.info(
                "{}: 1,000 holds, 10 waits and 1,000 waiters inspected within {} ms",
                server,
                TestClients.since(start).toMillis());
        List<LockInfo> held = in(seen, HELD);
        List<LockInfo> onServer = in(seen, WAITING_ON_SERVER);
        assertThat(held).hasSize(1_000);
        assertThat(onServer).hasSize(10);
        assertThat(in(seen, WAITING_HERE)).hasSize(1_000);
        List<LockInfo> both = new ArrayList<>(held);
        both.addAll(onServer);
        assertThat(both.stream().map(InspectContract::text).collect(Collectors.toSet()))
                .hasSize(1_010)
                .isEqualTo(shown());

        assertDetails(seen, holds.get(0).backendPid());
        assertThat(seen).isSortedAccordingTo((one, other) -> one.key().compareTo(other.key()));
        // the other client sees the same of the server, and nothing of what waits here
        assertThat(in(look(reports), WAITING_HERE)).isEmpty();
        waits.dispose();
        holds.forEach(TestClients::release);
    }

    private static void assertDetails(List<LockInfo> seen, int holder) {
        assertThat(in(seen, HELD)).allSatisfy(lock -> {
            assertThat(lock.application()).contains("billing");
            assertThat(lock.pid()).hasValue(holder);
            assertThat(lock.since()).isPresent();
            assertThat(lock.blockedBy()).isEmpty();
        });
        assertThat(in(seen, HELD).stream()
                        .flatMap(lock -> lock.names().stream())
                        .collect(Collectors.toSet()))
                .isEqualTo(
                        IntStream.range(0, 1_000).mapToObj(i -> "order/n" + i).collect(Collectors.toSet()));
        assertThat(in(seen, WAITING_ON_SERVER)).allSatisfy(lock -> {
            assertThat(lock.application()).contains("reports");
            assertThat(lock.blockedBy()).containsExactly(holder);
            assertThat(lock.since()).isPresent();
            assertThat(lock.clientAddress()).isPresent();
            assertThat(lock.names()).hasSize(1);
        });
        assertThat(in(seen, WAITING_HERE)).allSatisfy(lock -> {
            assertThat(lock.key()).isEqualTo(HOT);
            assertThat(lock.names()).containsExactly("order/n0");
            assertThat(lock.pid()).isEmpty();
            assertThat(lock.application()).contains("billing");
            assertThat(lock.blockedBy()).containsExactly(holder);
        });
    }

    @Test
    void waitersBehindOneThatWaitsOnTheServer_areBlockedByThat_andItByTheHolderElsewhere() {
        PostgresqlConnection other = sessions.open(configuration -> configuration.applicationName("a script"));
        Sessions.run(other, "select pg_advisory_lock(" + A.value() + ")");
        DefaultAdvisoryLocks locks = clients.open(server);
        for (boolean inSession : new boolean[] {false, true}) {
            LockRequest request = inSession ? locks.exclusive(A).inSession() : locks.exclusive(A);
            Disposable first = request.guard(Mono.never()).subscribe();
            sessions.awaitWaiting(1);
            Disposable second = request.guard(Mono.never()).subscribe();
            List<LockInfo> seen = look(locks);
            LockInfo holder = only(seen, A, HELD);
            LockInfo waiter = only(seen, A, WAITING_ON_SERVER);
            assertThat(holder.pid()).hasValue(Sessions.pid(other));
            assertThat(holder.application()).contains("a script");
            assertThat(holder.since()).as("not known of others").isEmpty();
            assertThat(holder.names()).as("as it is called here").containsExactly("inspected/a");
            assertThat(waiter.blockedBy()).containsExactly(Sessions.pid(other));
            assertThat(only(seen, A, WAITING_HERE).blockedBy())
                    .containsExactly(waiter.pid().orElseThrow());
            assertThat(waiter.toString())
                    .startsWith("inspected/a (bigint " + A.value() + "): exclusive, waiting on the server since 20")
                    .contains(" by pid " + waiter.pid().getAsInt() + ", application r2lock, client ")
                    .endsWith(", blocked by [" + Sessions.pid(other) + "]");
            second.dispose();
            first.dispose();
            Await.until("end of the waits", () -> locks.live() == 0);
        }
    }

    @Test
    void keysOfBothSpaces_comeBackAsTheyAre_negativeOnesToo() {
        List<LockKey> keys = List.of(
                LockKey.of(Long.MIN_VALUE),
                LockKey.of(-1),
                LockKey.of(0),
                LockKey.of(4_294_967_296L),
                LockKey.of(Long.MAX_VALUE),
                LockKey.of(Integer.MIN_VALUE, -1),
                LockKey.of(-1, Integer.MAX_VALUE),
                LockKey.of(0, 0),
                LockKey.of(1, -7));
        DefaultAdvisoryLocks locks = clients.open(server);
        HeldLock hold = acquire(locks.shared(keys));
        List<LockInfo> seen = look(locks);
        assertThat(seen.stream().map(LockInfo::key)).containsExactlyElementsOf(hold.keys());
        assertThat(seen).allSatisfy(lock -> {
            assertThat(lock.mode()).isEqualTo(LockMode.SHARED);
            assertThat(lock.names()).isEmpty();
        });
        release(hold);
        assertThat(look(locks)).isEmpty();
    }

    @Test
    void locksOfAnotherDatabase_areNotShown() {
        try (OddDatabase odd = new OddDatabase(server)) {
            DefaultAdvisoryLocks elsewhere = clients.open(odd.connectionFactory(), builder -> {});
            DefaultAdvisoryLocks locks = clients.open(server);
            HeldLock hold = acquire(elsewhere.exclusive(A));
            assertThat(look(locks)).isEmpty();
            assertThat(look(elsewhere)).hasSize(1);
            release(hold);
            elsewhere.close().block(PATIENCE);
        }
    }

    @Test
    void whenAllConnectionsAreInUse_itHasOneOfItsOwn() {
        DefaultAdvisoryLocks locks = clients.open(server, builder -> builder.maxConnections(1));
        HeldLock hold = acquire(locks.exclusive(A));
        waiting(locks.exclusive(B));
        List<LockInfo> seen = look(locks);
        assertThat(only(seen, A, HELD).pid()).hasValue(hold.backendPid());
        LockInfo waiter = only(seen, B, WAITING_HERE);
        assertThat(waiter.pid()).isEqualTo(OptionalInt.empty());
        assertThat(waiter.blockedBy()).as("a connection is all that is missing").isEmpty();
        waits.dispose();
        release(hold);
    }

    @Test
    void roleThatMayNotSeeOthers_seesTheLocksAllTheSame() {
        server.execute("drop role if exists nosy", "create role nosy login password 'x'");
        DefaultAdvisoryLocks owner = clients.open(server);
        DefaultAdvisoryLocks nosy = clients.open(
                new PostgresqlConnectionFactory(
                        server.configuration().username("nosy").password("x").build()),
                builder -> builder.applicationName("nosy"));
        HeldLock theirs = acquire(owner.exclusive(A));
        HeldLock own = acquire(nosy.exclusive(B));
        waiting(nosy.exclusive(A));
        sessions.awaitWaiting(1);
        List<LockInfo> seen = look(nosy);
        assertThat(only(seen, A, HELD).pid()).hasValue(theirs.backendPid());
        assertThat(only(seen, A, HELD).clientAddress()).isEqualTo(Optional.empty());
        assertThat(only(seen, B, HELD).clientAddress()).isPresent();
        assertThat(only(seen, A, WAITING_ON_SERVER).blockedBy()).containsExactly(theirs.backendPid());
        waits.dispose();
        release(own);
        release(theirs);
        nosy.close().block(PATIENCE);
        server.execute("drop role nosy");
    }
}
