package io.r2lock;

import static io.r2lock.LockInfo.State.HELD;
import static io.r2lock.LockInfo.State.WAITING_HERE;
import static io.r2lock.LockInfo.State.WAITING_ON_SERVER;
import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.time.Instant;
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
    private static final LockKey C = LockKey.named("inspected", "c");

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

    static List<LockInfo> look(AdvisoryLocks locks) {
        return Objects.requireNonNull(locks.inspect().collectList().block(PATIENCE));
    }

    private static List<LockInfo> in(List<LockInfo> all, LockInfo.State state) {
        return all.stream().filter(lock -> lock.state() == state).toList();
    }

    private static LockInfo only(List<LockInfo> all, LockKey key, LockInfo.State state) {
        List<LockInfo> found =
                in(all, state).stream().filter(lock -> lock.key().equals(key)).toList();
        assertThat(found).hasSize(1);
        return found.get(0);
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

    private Instant serverNow() {
        return ((java.sql.Timestamp) Objects.requireNonNull(
                        server.query("select now()::timestamptz as now").get(0).get("now")))
                .toInstant();
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
        LockKey hot = LockKey.named("order", "n0");
        for (int i = 0; i < 1_000; i++) {
            waiting(billing.exclusive(hot).inSession());
        }

        long start = System.nanoTime();
        List<LockInfo> seen = look(billing);
        LOG.info(
                "{}: 1,000 holds, 10 waits and 1,000 waiters inspected within {} ms",
                server,
                TestClients.since(start).toMillis());
        List<LockInfo> held = in(seen, HELD);
        List<LockInfo> onServer = in(seen, WAITING_ON_SERVER);
        List<LockInfo> here = in(seen, WAITING_HERE);
        assertThat(held).hasSize(1_000);
        assertThat(onServer).hasSize(10);
        assertThat(here).hasSize(1_000);
        List<LockInfo> both = new ArrayList<>(held);
        both.addAll(onServer);
        assertThat(both.stream().map(InspectContract::text).collect(Collectors.toSet()))
                .hasSize(1_010)
                .isEqualTo(shown());

        int holder = holds.get(0).backendPid();
        assertThat(held).allSatisfy(lock -> {
            assertThat(lock.application()).contains("billing");
            assertThat(lock.pid()).hasValue(holder);
            assertThat(lock.since()).isPresent();
            assertThat(lock.blockedBy()).isEmpty();
        });
        assertThat(held.stream().flatMap(lock -> lock.names().stream()).collect(Collectors.toSet()))
                .isEqualTo(
                        IntStream.range(0, 1_000).mapToObj(i -> "order/n" + i).collect(Collectors.toSet()));
        assertThat(onServer).allSatisfy(lock -> {
            assertThat(lock.application()).contains("reports");
            assertThat(lock.blockedBy()).containsExactly(holder);
            assertThat(lock.since()).isPresent();
            assertThat(lock.clientAddress()).isPresent();
            assertThat(lock.names()).hasSize(1);
        });
        assertThat(here).allSatisfy(lock -> {
            assertThat(lock.key()).isEqualTo(hot);
            assertThat(lock.names()).containsExactly("order/n0");
            assertThat(lock.pid()).isEmpty();
            assertThat(lock.application()).contains("billing");
            assertThat(lock.blockedBy()).containsExactly(holder);
        });
        assertThat(seen).isSortedAccordingTo((one, other) -> one.key().compareTo(other.key()));
        // the other client sees the same of the server, and nothing of what waits here
        assertThat(in(look(reports), WAITING_HERE)).isEmpty();
        waits.dispose();
        holds.forEach(TestClients::release);
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
    void pollers_areBlockedByWhoeverHoldsIt_eachKeyOfATransaction_andTheMissingOneOfASession() {
        PostgresqlConnection other = TestClients.holdElsewhere(sessions, B.value());
        DefaultAdvisoryLocks locks = clients.open(server);
        LockKey free = LockKey.named("inspected", "free");
        waiting(locks.exclusive(B, free).polling());
        // between two tries
        List<LockInfo> seen =
                Await.value(() -> look(locks), all -> in(all, WAITING_HERE).size() == 2, PATIENCE);
        assertThat(only(seen, B, WAITING_HERE).blockedBy()).containsExactly(Sessions.pid(other));
        assertThat(only(seen, free, WAITING_HERE).blockedBy()).isEmpty();
        waits.clear();
        Await.until("end of the wait", () -> locks.live() == 0);
        waits.add(locks.exclusive(B, free)
                .inSession()
                .polling()
                .guard(Mono.never())
                .subscribe());
        seen = Await.value(() -> look(locks), all -> in(all, WAITING_HERE).size() == 1, PATIENCE);
        assertThat(only(seen, B, WAITING_HERE).blockedBy()).containsExactly(Sessions.pid(other));
    }

    @Test
    void requestForSeveralKeys_isShownAtTheGateWhereItStands() {
        DefaultAdvisoryLocks locks = clients.open(server);
        for (boolean inSession : new boolean[] {false, true}) {
            LockRequest one = inSession ? locks.exclusive(B).inSession() : locks.exclusive(B);
            LockRequest all = inSession ? locks.exclusive(A, B, C).inSession() : locks.exclusive(A, B, C);
            HeldLock hold = acquire(one);
            Disposable wait = all.guard(Mono.never()).subscribe();
            LockInfo waiter = only(look(locks), B, WAITING_HERE);
            assertThat(waiter.blockedBy()).containsExactly(hold.backendPid());
            assertThat(in(look(locks), WAITING_HERE)).hasSize(1);
            wait.dispose();
            release(hold);
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
        // an extension's own key space is none of these
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
    void permits_areShownByTheirSlots_andWhoeverWaitsForOneByAllThatHaveOne() {
        DefaultAdvisoryLocks locks = clients.open(server);
        DefaultAdvisoryLocks others = clients.open(server);
        HeldLock mine = acquire(locks.permit(A, 2));
        HeldLock theirs = acquire(others.permit(A, 2));
        waiting(locks.permit(A, 2));
        HeldLock unnamed = acquire(locks.permit(LockKey.of(5), 1));
        List<LockInfo> seen = look(locks);
        assertThat(in(seen, HELD).stream().flatMap(lock -> lock.names().stream()))
                .containsExactlyInAnyOrder(
                        "inspected/a (permit 1 of 2)", "inspected/a (permit 2 of 2)", "bigint 5 (permit 1 of 1)");
        LockInfo waiter = only(seen, A, WAITING_HERE);
        assertThat(waiter.names()).containsExactly("inspected/a (one of 2 permits)");
        assertThat(waiter.blockedBy()).containsExactlyInAnyOrder(mine.backendPid(), theirs.backendPid());
        // the key itself is another lock
        waiting(locks.exclusive(A));
        Await.until("the lock", () -> in(look(locks), HELD).size() == 4);
        assertThat(only(look(locks), A, HELD).names()).containsExactly("inspected/a");
        waits.dispose();
        List.of(mine, theirs, unnamed).forEach(TestClients::release);
    }

    @Test
    void holdersThatShareOneLock_areOneEntry_sinceTheOldest() {
        DefaultAdvisoryLocks locks = clients.open(server);
        Instant before = serverNow();
        HeldLock first = acquire(locks.shared(A).inSession());
        Instant between = serverNow();
        HeldLock second = acquire(locks.shared(A).inSession());
        LockInfo shared = only(look(locks), A, HELD);
        // on the server's clock, to a round trip
        assertThat(shared.since().orElseThrow()).isBetween(before.minusMillis(500), between.plusMillis(500));
        Await.rest(Duration.ofMillis(600));
        release(first);
        assertThat(only(look(locks), A, HELD).since().orElseThrow())
                .isAfter(shared.since().orElseThrow());
        release(second);
    }

    @Test
    void nestedLocks_areShownWithTheirNames_alsoAfterTheirOwnHoldHasEnded() {
        DefaultAdvisoryLocks locks = clients.open(server);
        HeldLock outer = acquire(locks.exclusive(A));
        outer.guard(locks.exclusive(B)
                        .guard(Mono.fromRunnable(() -> {
                            LockInfo inner = only(look(locks), B, HELD);
                            assertThat(inner.pid()).hasValue(outer.backendPid());
                            assertThat(inner.since()).isPresent();
                        }))
                        .subscribeOn(reactor.core.scheduler.Schedulers.boundedElastic()))
                .block(PATIENCE);
        List<LockInfo> seen = look(locks);
        assertThat(only(seen, B, HELD).names()).containsExactly("inspected/b");
        assertThat(only(seen, B, HELD).since()).as("not noted").isEmpty();
        assertThat(only(seen, A, HELD).since()).isPresent();
        release(outer);
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
                new io.r2dbc.postgresql.PostgresqlConnectionFactory(
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

    @Test
    void statements_carryTheirNamespace_whereItIsPlain_andNothingElse() {
        String query =
                "select query from pg_stat_activity where wait_event = 'advisory' and application_name = 'r2lock'";
        DefaultAdvisoryLocks locks = clients.open(server);
        LockKey odd = LockKey.named("x*/;select pg_sleep(0)--\n", "é");
        PostgresqlConnection other = TestClients.holdElsewhere(sessions, A.value(), odd.value());
        HeldLock outer = acquire(locks.exclusive(C));
        List<Mono<Object>> waiters = List.of(
                locks.exclusive(A).guard(Mono.never()),
                outer.guard(locks.shared(A).guard(Mono.never())),
                locks.exclusive(A).inSession().guard(Mono.never()),
                locks.exclusive(odd).guard(Mono.never()));
        List<String> statements = new ArrayList<>();
        for (Mono<Object> waiter : waiters) {
            Disposable wait = waiter.subscribe();
            sessions.awaitWaiting(1);
            statements.add(String.valueOf(server.query(query).get(0).get("query")));
            wait.dispose();
            sessions.awaitWaiting(0);
        }
        assertThat(statements.subList(0, 3))
                .allSatisfy(sql ->
                        assertThat(sql).containsPattern("lock(_shared)?\\(" + A.value() + "\\)/\\*inspected\\*/"));
        assertThat(statements.get(3)).contains("lock(" + odd.value() + ")").doesNotContain("/*", "sleep");
        release(outer);
        assertThat(Sessions.pid(other)).isPositive();
    }
}
