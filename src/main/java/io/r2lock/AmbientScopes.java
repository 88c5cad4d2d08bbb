package io.r2lock;

import java.lang.ref.ReferenceQueue;
import java.lang.ref.WeakReference;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;

/**
 * The ambient transactions that this client has something in, by identity. One is forgotten when it is completed; if its completion
 * is never told, when its identity is garbage.
 */
final class AmbientScopes {

    private final Map<Identity, AmbientScope> scopes = new ConcurrentHashMap<>();
    private final ReferenceQueue<Object> garbage = new ReferenceQueue<>();

    /** Compares what it refers to, and once that is gone only itself. */
    private static final class Identity extends WeakReference<Object> {

        private final int hash;

        Identity(Object transaction, @Nullable ReferenceQueue<Object> garbage) {
            super(transaction, garbage);
            this.hash = System.identityHashCode(transaction);
        }

        @Override
        public boolean equals(@Nullable Object other) {
            Object own = get();
            return other == this || (own != null && other instanceof Identity that && that.refersTo(own));
        }

        @Override
        public int hashCode() {
            return hash;
        }
    }

    /** The scope of the transaction, if there is one. */
    @Nullable
    AmbientScope known(AmbientTransaction.Participation transaction) {
        return scopes.get(new Identity(identity(transaction), null));
    }

    /** The scope of the transaction, which ends with it; of one that throws, or answers nothing, nothing is kept. */
    AmbientScope of(AmbientTransaction.Participation transaction, @Nullable Hold surrounding) {
        forgetGarbage();
        AmbientScope known = known(transaction);
        if (known != null) {
            return known;
        }
        Identity identity = new Identity(identity(transaction), garbage);
        Mono<Void> completion =
                Objects.requireNonNull(transaction.completion(), "The AmbientTransaction has no completion");
        AmbientScope created = new AmbientScope(surrounding);
        AmbientScope first = scopes.putIfAbsent(identity, created);
        if (first != null) {
            return first;
        }
        // not kept: who tells it refers to the scope, and must not be referred to by it
        Runnable ends = () -> {
            scopes.remove(identity);
            created.complete();
        };
        completion.subscribe(nothing -> {}, error -> ends.run(), ends);
        return created;
    }

    private static Object identity(AmbientTransaction.Participation transaction) {
        return Objects.requireNonNull(transaction.transaction(), "The AmbientTransaction has no identity");
    }

    private void forgetGarbage() {
        for (Object gone = garbage.poll(); gone != null; gone = garbage.poll()) {
            scopes.remove(gone);
        }
    }

    /** For tests. */
    int size() {
        forgetGarbage();
        return scopes.size();
    }
}
