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
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;

/** {@code inspect()} when something is in its way. */
class InspectTroubleIT {

    private static final LockKey KEY = LockKey.named("inspected", "trouble");

    /** How many cancels come at least, each 12 ms later. */
    private static final int PHASES = 26;

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private PostgresqlConnectionFactory through(TcpProxy proxy) {
        return new PostgresqlConnectionFactory(
                server.configuration().host(proxy.host()).port(proxy.port()).build());
    }

    @Test
    void cancelInAnyPhase_leavesNoConnection_andTellsNothing() {
        try (TcpProxy proxy = TcpProxy.to(server).delay(Duration.ofMillis(20)).start()) {
            DefaultAdvisoryLocks locks = clients.open(through(proxy), builder -> {});
            AtomicInteger told = new AtomicInteger();
            int ended = 0;
            int cancelled = 0;
            for (int look = 0; look < PHASES || ((ended == 0 || cancelled == 0) && look < 4 * PHASES); look++) {
                AtomicInteger end = new AtomicInteger();
                Disposable inspection =
                        locks.inspect().doOnTerminate(end::incrementAndGet).subscribe(lock -> told.incrementAndGet());
                // later each time, so that on a slow machine too some have ended before
                Await.rest(Duration.ofMillis(12L * look));
                inspection.dispose();
                if (end.get() > 0) {
                    ended++;
                } else {
                    cancelled++;
                }
            }
            assertThat(ended).as("those that had ended before").isPositive();
            assertThat(cancelled).as("those that had not").isPositive();
            assertThat(told).hasValue(0);
            Await.until("its connections closed", () -> proxy.open() == 0);
        }
    }

    @Test
    void eachSubscriptionLooksAnew_andOneThatWantsLittleGetsLittle() {
        DefaultAdvisoryLocks locks = clients.open(server);
        HeldLock hold = acquire(locks.exclusive(LockKey.of(1), LockKey.of(2), LockKey.of(3)));
        var inspection = locks.inspect();
        assertThat(inspection.take(1).collectList().block(PATIENCE)).hasSize(1);
        assertThat(inspection.collectList().block(PATIENCE)).hasSize(3);
        release(hold);
        assertThat(inspection.collectList().block(PATIENCE)).isEmpty();
    }

    @Test
    void serverThatDoesNotAnswer_isAnErrorInTime_andSoIsAClosedClient() {
        Duration timeout = Duration.ofMillis(500);
        try (TcpProxy proxy = TcpProxy.to(server).start()) {
            DefaultAdvisoryLocks locks = clients.open(through(proxy), builder -> builder.connectTimeout(timeout));
            for (Runnable trouble : List.<Runnable>of(proxy::stall, proxy::refuse)) {
                trouble.run();
                long start = System.nanoTime();
                assertThatThrownBy(() -> Inspections.look(locks))
                        .isInstanceOfSatisfying(
                                LockServerException.class,
                                error -> assertThat(error.keys()).isEmpty())
                        .hasMessageStartingWith("No inspection: ");
                assertThat(since(start)).isLessThan(timeout.plusSeconds(2));
            }
            proxy.resume();
            proxy.accept();
            assertThat(Inspections.look(locks)).isEmpty();
            Await.until("its connections closed", () -> proxy.open() == 0);
            locks.close().block(PATIENCE);
            assertThatThrownBy(() -> Inspections.look(locks))
                    .isInstanceOf(LocksClosedException.class)
                    .hasMessageContaining("no inspection");
        }
    }

    @Test
    void behindAPooler_itShowsWhatEveryBackendHolds_andKnowsItsOwn() {
        PgBouncer.assumeInstalled();
        try (TestServer own = TestServer.own(EmbeddedServer.NEWEST, Map.of());
                PgBouncer pooler = PgBouncer.transactionMode(own, 4)) {
            residue.watch(own);
            DefaultAdvisoryLocks locks = clients.open(pooler.connectionFactory(), builder -> {});
            HeldLock hold = acquire(locks.exclusive(KEY));
            Disposable wait = locks.exclusive(KEY).guard(Mono.never()).subscribe();
            List<LockInfo> seen = Inspections.look(locks);
            assertThat(seen).hasSize(2);
            assertThat(seen.get(0).pid()).hasValue(hold.backendPid());
            assertThat(seen.get(0).since()).as("a hold of this client").isPresent();
            assertThat(seen.get(1).state()).isEqualTo(LockInfo.State.WAITING_HERE);
            assertThat(seen.get(1).blockedBy()).containsExactly(hold.backendPid());
            wait.dispose();
            release(hold);
            locks.close().block(PATIENCE);
        }
    }

    @Test
    void lockOfAPreparedTransaction_isNobodys_andBlocksAllTheSame() {
        Map<String, String> preparing = Map.of("max_prepared_transactions", "2");
        try (TestServer own = TestServer.own(EmbeddedServer.NEWEST, preparing);
                Sessions sessions = new Sessions(own)) {
            residue.watch(own);
            DefaultAdvisoryLocks locks = clients.open(own);
            PostgresqlConnection other = sessions.open();
            Sessions.run(other, "begin; select pg_advisory_xact_lock(" + KEY.value() + ")");
            Sessions.run(other, "prepare transaction 'kept'");
            Disposable wait = locks.exclusive(KEY).guard(Mono.never()).subscribe();
            sessions.awaitWaiting(1);
            List<LockInfo> seen = Inspections.look(locks);
            assertThat(seen).hasSize(2);
            assertThat(seen.get(0).pid()).as("nobody's").isEmpty();
            assertThat(seen.get(0).application()).isEmpty();
            assertThat(seen.get(1).blockedBy()).as("a prepared transaction").containsExactly(0);
            wait.dispose();
            Sessions.run(other, "rollback prepared 'kept'");
            locks.close().block(PATIENCE);
        }
    }
}
