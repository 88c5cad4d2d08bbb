package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.holdElsewhere;
import static io.r2lock.TestClients.since;
import static io.r2lock.TestClients.warm;
import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;
import reactor.test.scheduler.VirtualTimeScheduler;

/** A network that goes silent: everything of r2lock's own ends by a deadline, and is told. */
class StalledNetworkIT {

    private static final LockKey A = LockKey.of(7_001);

    private final TestServer server = TestServer.newest();
    private final TcpProxy proxy = TcpProxy.to(server).start();
    private final ListAppender<ILoggingEvent> log = new ListAppender<>();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeEach
    void watchTheLog() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        log.start();
        logger().addAppender(log);
    }

    @AfterEach
    void close() {
        logger().detachAppender(log);
        proxy.close();
    }

    private static Logger logger() {
        return (Logger) LoggerFactory.getLogger("io.r2lock");
    }

    private DefaultAdvisoryLocks client(Scheduler clock) {
        return clients.open(
                new PostgresqlConnectionFactory(server.configuration()
                        .host(proxy.host())
                        .port(proxy.port())
                        .build()),
                builder -> builder.clock(clock));
    }

    private void assertOneWarning() {
        assertThat(log.list)
                .filteredOn(event -> event.getLevel().isGreaterOrEqual(ch.qos.logback.classic.Level.WARN))
                .singleElement()
                .satisfies(event -> assertThat(event.getFormattedMessage()).contains("did not answer"));
    }

    @Test
    void cancelledWait_givesItsConnectionUpAfterTheStopDeadline() {
        try (Sessions sessions = new Sessions(server)) {
            DefaultAdvisoryLocks locks = client(Schedulers.parallel());
            warm(locks, 2);
            holdElsewhere(sessions, 7_001);
            Disposable waiting = locks.withAdvisoryLock(A, Mono.just(1)).subscribe();
            sessions.awaitWaiting(1);
            proxy.stall();
            long start = System.nanoTime();
            waiting.dispose();
            Await.until("slot back", () -> locks.connections().acquired() == 0);
            assertThat(since(start))
                    .isBetween(
                            Duration.ofSeconds(LockConnection.STOP_DEADLINE_SECONDS),
                            Duration.ofSeconds(LockConnection.STOP_DEADLINE_SECONDS + 2));
            assertThat(locks.gates().size()).isZero();
            assertOneWarning();
            proxy.resume();
            sessions.awaitWaiting(0);
            assertThat(locks.withAdvisoryLock(LockKey.of(7_002), Mono.just(1)).block(PATIENCE))
                    .isEqualTo(1);
        }
    }

    @Test
    void commitWithoutAnAnswer_isOfUnknownOutcomeAfterItsDeadline() {
        VirtualTimeScheduler clock = VirtualTimeScheduler.create();
        DefaultAdvisoryLocks locks = client(clock);
        HeldLock hold = acquire(locks.exclusive(A));
        execute(hold, "select 1").block(PATIENCE);
        proxy.stall();
        CompletableFuture<Void> commit = hold.commit().toFuture();
        clock.advanceTimeBy(Duration.ofSeconds(LockConnection.COMMIT_DEADLINE_SECONDS - 1));
        assertThat(commit).isNotDone();
        clock.advanceTimeBy(Duration.ofSeconds(2));

        assertThat(commit)
                .failsWithin(PATIENCE)
                .withThrowableThat()
                .withCauseInstanceOf(CommitOutcomeUnknownException.class)
                .withMessageContaining("Unknown whether COMMIT succeeded");
        hold.release().block(PATIENCE);
        assertThat(locks.connections().acquired()).isZero();
        assertOneWarning();
    }
}
