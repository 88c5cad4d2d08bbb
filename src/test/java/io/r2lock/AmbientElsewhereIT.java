package io.r2lock;

import static io.r2lock.NestingClients.get;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.event.Level;
import reactor.core.publisher.Mono;

/** What a transaction of somebody else's has, for requests beside it: on connections of r2lock's own, and by other names. */
class AmbientElsewhereIT {

    private static final LockKey A = LockKey.of(167);

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private final List<String> collisions = new CopyOnWriteArrayList<>();
    private DefaultAdvisoryLocks locks;
    private OwnedTransaction transaction;

    @BeforeEach
    void prepare() {
        LockListener listener = new LockListener() {
            @Override
            public void collision(LockKey held, LockKey asked) {
                collisions.add(held.name() + " and " + asked.name());
            }
        };
        locks = clients.on(
                server,
                residue,
                builder ->
                        builder.ambientTransaction(OwnedTransaction.IN_CONTEXT).listener(listener));
        transaction = OwnedTransaction.begin(sessions.open());
    }

    @AfterEach
    void close() {
        transaction.commit();
        sessions.close();
    }

    private static LockRequest elsewhere(LockRequest request, boolean session) {
        return session ? request.inSession() : request.requireNew();
    }

    private int in(LockRequest request) {
        return transaction.run(request.guard(Mono.just(1)));
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void readerElsewhere_doesNotWaitForTheTransactionsReader(boolean session) {
        in(locks.shared(A));
        assertThat(in(elsewhere(locks.shared(A), session))).isEqualTo(1);
        assertThatThrownBy(() -> in(elsewhere(locks.exclusive(A), session)))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("deadlock itself");
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void readerElsewhere_waitsForWhatTheTransactionHasExclusive_whateverItTookAfterThat(boolean session) {
        in(locks.shared(A));
        in(locks.exclusive(A));
        in(locks.shared(A));
        assertThatThrownBy(() -> in(elsewhere(locks.shared(A), session)))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("deadlock itself");
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void whoDoesNotWaitElsewhere_isToldBusy(boolean session) {
        in(locks.exclusive(A));
        assertThatThrownBy(() -> in(elsewhere(locks.exclusive(A).noWait(), session)))
                .isInstanceOfSatisfying(
                        LockNotAvailableException.class,
                        error -> assertThat(error.isKeyBusy()).isTrue());
        assertThatThrownBy(() -> in(elsewhere(locks.exclusive(A).waitAtMost(Duration.ofMillis(50)), session)))
                .isInstanceOf(IllegalStateException.class);
        Mono<Integer> skipped =
                elsewhere(locks.exclusive(A).skipIfBusy(), session).guard(Mono.just(1));
        assertThat(transaction.run(skipped.defaultIfEmpty(2))).isEqualTo(2);
        assertThat(locks.waiting()).isZero();
    }

    private static final LockKey ONE = CollisionsTest.collidingPair().get(0);
    private static final LockKey OTHER = CollisionsTest.collidingPair().get(1);

    private void assertTold(LockKey first, LockKey second) {
        assertThat(collisions).containsExactly(first.name() + " and " + second.name());
    }

    @Test
    void namesThatCollide_areToldInOneTransaction() {
        residue.allowLog(Level.WARN, "io.r2lock");
        in(locks.exclusive(ONE));
        assertThat(collisions).isEmpty();
        in(locks.exclusive(OTHER));
        assertTold(ONE, OTHER);
        in(locks.exclusive(ONE));
        assertThat(collisions).hasSize(1);
    }

    @Test
    void namesThatCollide_areToldInTwoTransactions() {
        residue.allowLog(Level.WARN, "io.r2lock");
        in(locks.exclusive(ONE));
        OwnedTransaction second = OwnedTransaction.begin(sessions.open());
        assertThatThrownBy(() -> second.run(locks.exclusive(OTHER).noWait().guard(Mono.just(1))))
                .isInstanceOf(LockNotAvailableException.class);
        assertTold(ONE, OTHER);
        second.commit();
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void namesThatCollide_areToldBetweenATransactionAndTheRest(boolean ambientFirst) {
        residue.allowLog(Level.WARN, "io.r2lock");
        if (ambientFirst) {
            in(locks.exclusive(ONE));
            assertThatThrownBy(() -> get(locks.exclusive(OTHER).noWait().guard(Mono.just(1))))
                    .isInstanceOf(LockNotAvailableException.class);
        } else {
            HeldLock hold = get(locks.exclusive(ONE).inSession().acquire());
            assertThatThrownBy(() -> in(locks.exclusive(OTHER).noWait())).isInstanceOf(LockNotAvailableException.class);
            NestingClients.end(hold.release());
        }
        assertTold(ONE, OTHER);
    }
}
