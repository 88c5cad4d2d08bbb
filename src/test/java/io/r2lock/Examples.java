package io.r2lock;

import io.r2dbc.spi.Connection;
import io.r2dbc.spi.ConnectionFactory;
import java.time.Duration;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** The examples of README and Javadoc, each a region; {@link ExamplesIT} holds them against the texts. */
final class Examples {

    record Receipt(String order) {}

    private final ConnectionFactory connectionFactory;

    Examples(ConnectionFactory connectionFactory) {
        this.connectionFactory = connectionFactory;
    }

    static Mono<Receipt> chargeOnce(String order) {
        return Mono.just(new Receipt(order));
    }

    static Mono<Void> book(Connection connection) {
        return Mono.from(connection.createStatement("SELECT 1").execute())
                .flatMap(result -> Mono.from(result.getRowsUpdated()))
                .then();
    }

    Mono<Receipt> guarded(String orderId) {
        // region guarded
        AdvisoryLocks locks = AdvisoryLocks.create(connectionFactory);

        Mono<Receipt> receipt = locks.withAdvisoryLock(LockKey.named("order", orderId), chargeOnce(orderId));
        // endregion
        return receipt.flatMap(done -> locks.close().thenReturn(done));
    }

    static Mono<Void> inSession(AdvisoryLocks locks, String tenant, Mono<Void> rebuild) {
        // region session
        Mono<Void> rebuilt = locks.exclusive(LockKey.named("index", tenant))
                .inSession()
                .waitAtMost(Duration.ofSeconds(30))
                .guard(rebuild);
        // endregion
        return rebuilt;
    }

    static Mono<Void> acquired(AdvisoryLocks locks, LockKey account) {
        // region acquired
        Mono<Void> transfer = Mono.usingWhen(
                locks.exclusive(account).acquire(),
                hold -> book(hold.connection()).then(hold.commit()),
                HeldLock::release);
        // endregion
        return transfer;
    }

    static Flux<Receipt> inOrder(AdvisoryLocks locks, Flux<String> orders) {
        // region stream
        Flux<Receipt> receipts = locks.flatMapLocked(
                orders,
                order -> locks.exclusive(LockKey.named("order", order)).inSession(),
                order -> chargeOnce(order),
                256);
        // endregion
        return receipts;
    }

    static Flux<Receipt> atMostFourAtOnce(AdvisoryLocks locks, Flux<String> orders) {
        // region permits
        Flux<Receipt> receipts = orders.flatMap(
                order -> locks.permit(LockKey.named("payment", "provider"), 4).guard(chargeOnce(order)));
        // endregion
        return receipts;
    }

    static Mono<Integer> sweep(FencingToken term) {
        return Mono.just(1);
    }

    static Flux<Integer> leading(AdvisoryLocks locks) {
        // region leader
        Flux<Integer> swept = locks.leaderElection(LockKey.named("leader", "sweeper"))
                .lead(leadership -> Flux.interval(Duration.ofSeconds(1))
                        .onBackpressureDrop()
                        .concatMap(tick -> sweep(leadership.term())));
        // endregion
        return swept;
    }

    static Flux<String> stuck(AdvisoryLocks locks) {
        // region inspect
        Flux<String> stuck =
                locks.inspect().filter(lock -> !lock.blockedBy().isEmpty()).map(LockInfo::toString);
        // endregion
        return stuck;
    }

    AdvisoryLocks ambient() {
        // region ambient
        AdvisoryLocks locks = AdvisoryLocks.builder(connectionFactory)
                .ambientTransaction(() -> Mono.deferContextual(context ->
                        Mono.justOrEmpty(context.<AmbientTransaction.Participation>getOrEmpty("transaction"))))
                .build();
        // endregion
        return locks;
    }

    /** A resource that remembers the largest token it has seen. */
    interface Store {
        Mono<Void> put(String document, long token);
    }

    static Mono<Void> fenced(AdvisoryLocks locks, LockKey key, Store store, String document) {
        // region fenced
        Mono<Void> written = locks.exclusive(key)
                .inSession()
                .guard(hold -> hold.fencingToken().flatMap(token -> store.put(document, token.asLong())));
        // endregion
        return written;
    }
}
