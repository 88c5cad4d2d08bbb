package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static io.r2lock.NestingClients.get;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.spi.Connection;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** An {@link AmbientTransaction} that throws, or answers nothing, where it must answer: the request has an error, and nothing is left. */
class AmbientBrokenIT {

    private static final LockKey A = LockKey.of(165);

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

    private DefaultAdvisoryLocks client(AmbientTransaction ambient) {
        return clients.on(server, residue, builder -> builder.ambientTransaction(ambient));
    }

    private enum Part {
        CONNECTION,
        IDENTITY,
        COMPLETION
    }

    /** One part of it is what the supplier says. */
    private record Broken(AmbientTransaction.Participation whole, Part part, Supplier<@Nullable Object> answer)
            implements AmbientTransaction.Participation {

        @SuppressWarnings({"unchecked", "NullAway"})
        private <T> T get(Part asked, T good) {
            return part == asked ? (T) answer.get() : good;
        }

        @Override
        public Connection connection() {
            return get(Part.CONNECTION, whole.connection());
        }

        @Override
        public Object transaction() {
            return get(Part.IDENTITY, whole.transaction());
        }

        @Override
        public Mono<Void> completion() {
            return get(Part.COMPLETION, whole.completion());
        }
    }

    private static void assertRefused(DefaultAdvisoryLocks locks, String message) {
        for (Mono<?> call : new Mono<?>[] {
            locks.withAdvisoryLock(A, Mono.just(1)), locks.exclusive(A).acquire()
        }) {
            assertThatThrownBy(() -> get(call)).hasMessageContaining(message);
        }
        assertThat(locks.waiting()).as("waiting").isZero();
        assertThat(locks.live()).as("live").isZero();
        assertThat(locks.ambient()).as("transactions").isZero();
    }

    @ParameterizedTest
    @EnumSource
    void partThatThrows_isTheRequestsError(Part part) {
        OwnedTransaction transaction = OwnedTransaction.begin(sessions.open());
        for (Supplier<@Nullable Object> thrower : throwers()) {
            Broken broken = new Broken(transaction, part, thrower);
            assertRefused(client(() -> Mono.just(broken)), "broken");
            // asked for on a thread of somebody else's
            assertRefused(client(() -> Mono.delay(Duration.ofMillis(1)).map(tick -> broken)), "broken");
        }
        transaction.commit();
    }

    private static Iterable<Supplier<@Nullable Object>> throwers() {
        return List.of(
                () -> {
                    throw new IllegalArgumentException("broken");
                },
                () -> {
                    throw new AssertionError("broken");
                });
    }

    @ParameterizedTest
    @EnumSource
    void partThatIsMissing_isTheRequestsError(Part part) {
        OwnedTransaction transaction = OwnedTransaction.begin(sessions.open());
        DefaultAdvisoryLocks locks = client(() -> Mono.just(new Broken(transaction, part, () -> null)));
        assertRefused(locks, "The AmbientTransaction has no");
        transaction.commit();
    }

    @Test
    void completionThatCannotBeSubscribedTo_isOfATransactionThatHasEnded() {
        OwnedTransaction transaction = OwnedTransaction.begin(sessions.open());
        Mono<Void> throwing = new Mono<>() {
            @Override
            public void subscribe(CoreSubscriber<? super Void> actual) {
                throw new IllegalArgumentException("broken");
            }
        };
        assertRefused(
                client(() -> Mono.just(new Broken(transaction, Part.COMPLETION, () -> throwing))), "was completed");
        transaction.commit();
    }

    @Test
    void lookupThatThrows_isTheRequestsError() {
        assertRefused(
                client(() -> {
                    throw new AssertionError("broken");
                }),
                "broken");
        assertRefused(
                client(() -> new Mono<>() {
                    @Override
                    public void subscribe(CoreSubscriber<? super AmbientTransaction.Participation> actual) {
                        throw new IllegalArgumentException("broken");
                    }
                }),
                "broken");
    }

    @Test
    void lookupThatNeverAnswers_isBoundedByTheWait_andEndedByTheClose() {
        Sinks.One<AmbientTransaction.Participation> answer = Sinks.one();
        DefaultAdvisoryLocks locks = client(answer::asMono);
        assertThatThrownBy(() ->
                        get(locks.exclusive(A).waitAtMost(Duration.ofMillis(50)).guard(Mono.just(1))))
                .isInstanceOf(LockTimeoutException.class);
        CompletableFuture<Integer> cancelled =
                locks.withAdvisoryLock(A, Mono.just(1)).toFuture();
        cancelled.cancel(true);
        CompletableFuture<Integer> waits =
                locks.withAdvisoryLock(A, Mono.just(1)).toFuture();
        CompletableFuture<HeldLock> acquires = locks.exclusive(A).acquire().toFuture();
        locks.close().block(PATIENCE);
        for (CompletableFuture<?> call : List.of(waits, acquires)) {
            assertThatThrownBy(() -> call.orTimeout(20, TimeUnit.SECONDS).join())
                    .hasCauseInstanceOf(LocksClosedException.class);
        }
        // too late for all of them
        OwnedTransaction transaction = OwnedTransaction.begin(sessions.open());
        answer.tryEmitValue(transaction).orThrow();
        transaction.ask("select 1");
        assertThat(NestingClients.isHeld(server, A)).isFalse();
        assertThat(locks.live() + locks.waiting() + locks.ambient()).isZero();
        transaction.commit();
    }

    @Test
    void requestAfterTheClose_isRefused_whateverTheLookupDoes() {
        DefaultAdvisoryLocks locks = client(Mono::never);
        locks.close().block(PATIENCE);
        assertThatThrownBy(() -> get(locks.withAdvisoryLock(A, Mono.just(1)))).isInstanceOf(LocksClosedException.class);
    }
}
