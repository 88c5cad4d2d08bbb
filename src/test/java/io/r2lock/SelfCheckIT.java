package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static io.r2lock.TestClients.since;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** What a client finds out about its server, and what it refuses to do with some. */
class SelfCheckIT {

    private static final LockKey A = LockKey.of(7_501);
    private static final LockKey PAIR = LockKey.of(7, 502);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private static SelfCheck look(AdvisoryLocks locks) {
        return Objects.requireNonNull(locks.selfCheck().block(PATIENCE));
    }

    @Test
    void healthyServer_isDescribed_andNothingIsLeftThere() {
        for (TestServer healthy : List.of(server, TestServer.oldest())) {
            residue.watch(healthy);
            DefaultAdvisoryLocks locks = clients.open(healthy);
            String backends = "select count(*) from pg_stat_activity where application_name <> 'test-bed'"
                    + " and backend_type = 'client backend'";
            long before = healthy.count(backends);
            SelfCheck found = look(locks);
            Await.until("end of its connections", () -> healthy.count(backends) == before);
            assertThat(found.excludes()).isTrue();
            assertThat(found.transactionPooling()).isFalse();
            assertThat(found.standby()).isFalse();
            assertThat(found.isReliable()).isTrue();
            assertThat(found.serverVersion()).startsWith(healthy.major() + ".");
            assertThat(found.serverEncoding()).isEqualTo("UTF8");
            assertThat(found.lockCapacity())
                    .isEqualTo(64 * healthy.count("select current_setting('max_connections')::int"));
            assertThat(found.refusedSettings()).isEmpty();
            assertThat(found.problems()).isEmpty();
            assertThat(found.toString()).matches("PostgreSQL \\d+\\.\\d+.*, UTF8, room for about \\d+ locks, excludes");
            assertThat(healthy.count("select count(*) from pg_locks where locktype = 'advisory'"))
                    .isZero();
            locks.close().block(PATIENCE);
        }
    }

    @Test
    void healthyServer_isNeverSuspected() {
        ClientOptions options = clients.open(server).options();
        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection a = sessions.open();
            PostgresqlConnection b = sessions.open();
            Flux<List<String>> looks = Flux.range(0, 500)
                    .concatMap(i -> ServerCheck.run(options, a, b, LockKey.of(1_000_000L * i)))
                    .map(verdict -> verdict.told().problems());
            assertThat(looks.distinct().collectList().block(PATIENCE)).containsExactly(List.of());
        }
    }

    @Test
    void standby_isRefused_withTheReason() {
        try (OddDatabase odd = new OddDatabase(server).standby(true)) {
            DefaultAdvisoryLocks locks = clients.open(odd.connectionFactory(), builder -> {});
            SelfCheck found = look(locks);
            assertThat(found.standby()).isTrue();
            assertThat(found.isReliable()).isFalse();
            assertThat(found.toString()).contains("(standby)", "Connect to the primary");
            assertThatThrownBy(() -> acquire(locks.exclusive(A)))
                    .isInstanceOf(LockServerException.class)
                    .hasMessageContaining("standby")
                    .hasMessageContaining("primary")
                    .hasMessageContaining(A.toString());
            assertThatThrownBy(() -> acquire(locks.shared(A).noWait())).isInstanceOf(LockServerException.class);
            Await.until("nothing left open", () -> odd.connected() == 0);
            // the same client, without being made anew
            odd.standby(false);
            assertThat(locks.withAdvisoryLock(A, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
            locks.close().block(PATIENCE);
        }
    }

    @Test
    void serverThatTurnsIntoAStandby_takesTheHoldsAlong_andGrantsNoMore() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        try (OddDatabase odd = new OddDatabase(server).standby(false)) {
            DefaultAdvisoryLocks locks =
                    clients.open(odd.connectionFactory(), builder -> builder.heartbeat(Duration.ofMillis(200)));
            HeldLock hold = acquire(locks.exclusive(A));
            CompletableFuture<Void> lost = hold.lost().toFuture();
            // a standby is also no place to open a heartbeat's connection to: that would be told as silence
            Await.until(
                    "a heartbeat",
                    () -> server.count("select count(*) from pg_stat_activity where state = 'idle'"
                                    + " and query like '%pg_stat_get_activity(NULL)%'")
                            == 1);
            assertThat(lost).isNotDone();
            odd.standby(true);
            assertThat(lost)
                    .failsWithin(Duration.ofSeconds(5))
                    .withThrowableThat()
                    .withCauseInstanceOf(LockLostException.class)
                    .withMessageContaining("standby");
            release(hold);
            assertThatThrownBy(() -> acquire(locks.exclusive(A)))
                    .isInstanceOf(LockServerException.class)
                    .hasMessageContaining("standby");
            locks.close().block(PATIENCE);
        }
    }

    @Test
    void serverThatDoesNotExclude_isFoundOut_andNoLockIsTakenThere() {
        try (OddDatabase odd = new OddDatabase(server).withoutExclusion()) {
            DefaultAdvisoryLocks locks = clients.open(odd.connectionFactory(), builder -> {});
            SelfCheck found = look(locks);
            assertThat(found.excludes()).isFalse();
            assertThat(found.isReliable()).isFalse();
            assertThat(found.transactionPooling()).isFalse();
            assertThat(found.toString()).contains("DOES NOT EXCLUDE", "Use PostgreSQL");
            for (LockKey key : List.of(A, PAIR)) {
                assertThatThrownBy(() -> acquire(locks.exclusive(key)))
                        .isInstanceOf(LockServerException.class)
                        .hasMessageContaining("does not exclude");
            }
            Await.until("nothing left open", () -> odd.connected() == 0);
            locks.close().block(PATIENCE);
        }
    }

    @Test
    void serverThatDoesNotAnswer_isAnErrorInTime_andSoIsAClosedClient() {
        Duration timeout = Duration.ofMillis(500);
        try (TcpProxy proxy = TcpProxy.to(server).start()) {
            DefaultAdvisoryLocks locks = clients.open(through(proxy), builder -> builder.connectTimeout(timeout));
            for (Runnable trouble : List.<Runnable>of(proxy::stall, proxy::refuse)) {
                trouble.run();
                long start = System.nanoTime();
                assertThatThrownBy(() -> look(locks))
                        .isInstanceOf(LockServerException.class)
                        .hasMessageStartingWith("No self-check: ");
                assertThat(since(start)).isLessThan(timeout.plusMillis(500));
            }
            proxy.resume();
            proxy.accept();
            assertThat(look(locks).problems()).isEmpty();
            Await.until("its connections closed", () -> proxy.open() == 0);
            locks.close().block(PATIENCE);
            assertThatThrownBy(() -> look(locks)).isInstanceOf(LocksClosedException.class);
        }
    }

    @Test
    void firstLook_thatIsOvertakenByACancelOrTheClose_leavesNoConnection() {
        try (TcpProxy proxy = TcpProxy.to(server).delay(Duration.ofMillis(20)).start()) {
            for (int millis : new int[] {0, 300}) {
                DefaultAdvisoryLocks locks =
                        clients.open(through(proxy), builder -> builder.heartbeat(Duration.ofMillis(100)));
                Disposable look = locks.selfCheck().subscribe();
                Disposable call = locks.withAdvisoryLock(A, Mono.just(1))
                        .onErrorComplete()
                        .subscribe();
                Mono.delay(Duration.ofMillis(millis)).block(PATIENCE);
                look.dispose();
                if (millis == 0) {
                    call.dispose();
                }
                locks.close().block(PATIENCE);
                Await.until("nothing left open after " + millis + " ms", () -> proxy.open() == 0);
            }
        }
    }

    private PostgresqlConnectionFactory through(TcpProxy proxy) {
        return new PostgresqlConnectionFactory(
                server.configuration().host(proxy.host()).port(proxy.port()).build());
    }
}
