package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** The backend of a transaction that somebody else owns is watched, as long as guarded work runs in it. */
class AmbientHeartbeatIT {

    private static final LockKey A = LockKey.of(169);

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @AfterEach
    void close() {
        sessions.close();
    }

    private DefaultAdvisoryLocks through(TcpProxy proxy) {
        return clients.with(
                AdvisoryLocks.builder(new PostgresqlConnectionFactory(server.configuration()
                        .host(proxy.host())
                        .port(proxy.port())
                        .build())),
                residue,
                builder -> builder.ambientTransaction(OwnedTransaction.IN_CONTEXT)
                        .heartbeat(Duration.ofMillis(200))
                        .heartbeatDeadline(Duration.ofSeconds(1)));
    }

    private static CompletableFuture<Integer> run(DefaultAdvisoryLocks locks, OwnedTransaction transaction) {
        Sinks.Empty<Void> started = Sinks.empty();
        CompletableFuture<Integer> call = transaction
                .around(locks.withAdvisoryLock(
                        A, Mono.<Integer>never().doOnSubscribe(subscription -> started.tryEmitEmpty())))
                .toFuture();
        started.asMono().block(PATIENCE);
        assertThat(locks.ambientHolds()).hasSize(1);
        return call;
    }

    private static void assertLost(CompletableFuture<Integer> call, String why) {
        assertThatThrownBy(() -> call.orTimeout(20, TimeUnit.SECONDS).join())
                .hasCauseInstanceOf(LockLostException.class)
                .hasMessageContaining(why);
    }

    @Test
    void serverThatDoesNotAnswer_isALoss_thoughTheConnectionIsStillThere() {
        residue.allowLog(Level.WARN, "io.r2lock");
        try (TcpProxy proxy = TcpProxy.to(server).start()) {
            DefaultAdvisoryLocks locks = through(proxy);
            OwnedTransaction transaction = OwnedTransaction.begin(sessions.open());
            CompletableFuture<Integer> call = run(locks, transaction);
            proxy.stall();
            assertLost(call, "has not answered");
            assertThat(locks.ambientHolds()).isEmpty();
            proxy.resume();
            transaction.commit();
        }
    }

    @Test
    void transactionThatEndsUntold_isALoss() {
        residue.allowLog(Level.WARN, "io.r2lock");
        try (TcpProxy proxy = TcpProxy.to(server).start()) {
            DefaultAdvisoryLocks locks = through(proxy);
            OwnedTransaction transaction = OwnedTransaction.begin(sessions.open());
            CompletableFuture<Integer> call = run(locks, transaction);
            transaction.sql("commit");
            assertLost(call, "its transaction has ended");
            transaction.completes();
        }
    }

    @Test
    void transactionThatIsIdle_isNot_andNothingIsWatchedAfterTheWork() {
        try (TcpProxy proxy = TcpProxy.to(server).start()) {
            DefaultAdvisoryLocks locks = through(proxy);
            OwnedTransaction transaction = OwnedTransaction.begin(sessions.open());
            Long waited = Objects.requireNonNull(
                    transaction.run(locks.withAdvisoryLock(A, Mono.delay(Duration.ofSeconds(3)))));
            assertThat(waited).isZero();
            assertThat(locks.ambientHolds()).isEmpty();
            transaction.commit();
        }
    }
}
