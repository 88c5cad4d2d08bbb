package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.Objects;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Results of the lock's connection that nobody reads: their rows go back all the same. */
class UnreadResultIT {

    private static final Duration SOON = Duration.ofSeconds(10);
    private static final LockKey KEY = LockKey.of(1);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    final NoResidue residue = NoResidue.on(server);

    private final AdvisoryLocks locks = AdvisoryLocks.create(server.connectionFactory());

    @AfterEach
    void close() {
        locks.close().block(SOON);
    }

    private static Flux<?> unread(HeldLock hold, int rows) {
        return Flux.from(hold.connection()
                .createStatement("select n from generate_series(1, " + rows + ") n")
                .execute());
    }

    @Test
    void commit_readsWhatTheWorkDidNot() {
        for (int i = 0; i < 20; i++) {
            assertThat(locks.exclusive(KEY)
                            .guard(hold -> unread(hold, 10).then(Mono.just(1)))
                            .block(SOON))
                    .isEqualTo(1);
        }
        residue.checkLeaks();
    }

    @Test
    void rollback_readsWhatTheWorkDidNot() {
        for (int i = 0; i < 20; i++) {
            HeldLock held =
                    Objects.requireNonNull(locks.exclusive(KEY).acquire().block(SOON));
            unread(held, 10).blockLast(SOON);
            held.release().block(SOON);
        }
        residue.checkLeaks();
    }

    /** More than the driver reads ahead: unread, they block the connection. */
    @Test
    void cancel_readsWhatBlocksTheConnection() {
        HeldLock held = Objects.requireNonNull(locks.exclusive(KEY).acquire().block(SOON));
        unread(held, 10_000).next().block(SOON);
        held.release().block(SOON);
        assertThat(locks.withAdvisoryLock(KEY, Mono.just(1)).block(SOON)).isEqualTo(1);
        residue.checkLeaks();
    }
}
