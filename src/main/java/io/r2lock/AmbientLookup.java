package io.r2lock;

import io.r2lock.AmbientTransaction.Participation;
import java.util.Objects;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Operators;
import reactor.util.context.Context;
import reactor.util.context.ContextView;

/**
 * Asks for the ambient transaction of one request. Never cancelled: it may be just opening what would be nobody's then; a request that
 * was cancelled meanwhile ends when it begins.
 */
final class AmbientLookup implements CoreSubscriber<Participation> {

    private final Context context;
    private final Acquire.Receiver receiver;
    private final Consumer<@Nullable Participation> found;
    private boolean done;

    private AmbientLookup(Context context, Acquire.Receiver receiver, Consumer<@Nullable Participation> found) {
        this.context = context;
        this.receiver = receiver;
        this.found = found;
    }

    /** The receiver is told an error. */
    static void start(
            AmbientTransaction ambient,
            ContextView context,
            Acquire.Receiver receiver,
            Consumer<@Nullable Participation> found) {
        Mono<Participation> current;
        try {
            current = Objects.requireNonNull(ambient.current(), "The AmbientTransaction returned null");
        } catch (RuntimeException thrown) {
            receiver.failed(thrown);
            return;
        }
        current.subscribe(new AmbientLookup(Context.of(context), receiver, found));
    }

    @Override
    public Context currentContext() {
        return context;
    }

    @Override
    public void onSubscribe(Subscription subscription) {
        subscription.request(Long.MAX_VALUE);
    }

    @Override
    public void onNext(Participation participation) {
        if (!done) {
            done = true;
            found.accept(participation);
        }
    }

    @Override
    public void onError(Throwable error) {
        if (done) {
            Operators.onErrorDropped(error, context);
        } else {
            done = true;
            receiver.failed(error);
        }
    }

    @Override
    public void onComplete() {
        if (!done) {
            done = true;
            found.accept(null);
        }
    }
}
