package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Signal;

/** More keys at once than the server's lock table has room for. */
@SuppressWarnings("NullAway.Init")
class SessionCapacityIT {

    private static final Logger LOG = LoggerFactory.getLogger(SessionCapacityIT.class);

    private static final int ASKED = 2_200;

    private static TestServer server;

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeAll
    static void start() {
        server = TestServer.own(
                EmbeddedServer.NEWEST, Map.of("max_locks_per_transaction", "10", "max_connections", "20"));
    }

    @AfterAll
    static void stop() {
        server.close();
    }

    private static List<Signal<HeldLock>> acquireAll(DefaultAdvisoryLocks locks) {
        return Objects.requireNonNull(Flux.range(0, ASKED)
                .flatMap(
                        i -> locks.exclusive(LockKey.of(46_000 + i))
                                .inSession()
                                .acquire()
                                .materialize(),
                        ASKED)
                .collectList()
                .block(PATIENCE));
    }

    @Test
    void callersBeyondCapacity_areToldWhy_andTheOthersKeepTheirHolds() {
        DefaultAdvisoryLocks locks = clients.open(
                server, builder -> builder.heartbeat(Duration.ofMillis(200)).heartbeatDeadline(Duration.ofSeconds(2)));
        try (Sessions sessions = new Sessions(server)) {
            // with a full lock table the server lets nobody in
            PostgresqlConnection watcher = sessions.open();
            String held = "select count(*) from pg_locks where locktype = 'advisory' and granted";
            assertThat(Sessions.ask(watcher, held)).containsExactly("0");
            assertThat(locks.exclusive(LockKey.of(1))
                            .inSession()
                            .guard(Mono.just(1))
                            .block(PATIENCE))
                    .isEqualTo(1);

            List<Signal<HeldLock>> answers = acquireAll(locks);
            List<HeldLock> holds = answers.stream()
                    .filter(Signal::hasValue)
                    .map(Signal::get)
                    .map(Objects::requireNonNull)
                    .toList();
            List<Throwable> refused = answers.stream()
                    .filter(Signal::isOnError)
                    .map(Signal::getThrowable)
                    .map(Objects::requireNonNull)
                    .toList();
            LOG.info(
                    "{} holds, {} refused: {}",
                    holds.size(),
                    refused.size(),
                    refused.get(0).getMessage());
            assertThat(holds).hasSizeGreaterThan(200);
            assertThat(refused).hasSizeGreaterThan(200).hasSize(ASKED - holds.size());
            assertThat(refused)
                    .allSatisfy(error -> assertThat(error)
                            .isInstanceOf(LockCapacityException.class)
                            .hasMessageContainingAll(
                                    "max_locks_per_transaction × (max_connections + max_prepared_transactions)",
                                    "10 × (20 + 0) = 200"));
            assertThat(Sessions.ask(watcher, held)).containsExactly(String.valueOf(holds.size()));

            // longer than it takes to call them lost, if no heartbeat came through
            Mono<Void> anyLost =
                    Flux.fromIterable(holds).flatMap(HeldLock::lost, ASKED).then();
            assertThat(Mono.firstWithSignal(anyLost.thenReturn(-1L), Mono.delay(Duration.ofSeconds(3)))
                            .block(PATIENCE))
                    .isZero();
            Flux.fromIterable(holds).flatMap(HeldLock::release, ASKED).blockLast(PATIENCE);
            assertThat(Sessions.ask(watcher, held)).containsExactly("0");
        }
        assertThat(locks.exclusive(LockKey.of(1))
                        .inSession()
                        .guard(Mono.just(1))
                        .block(PATIENCE))
                .isEqualTo(1);
    }
}
