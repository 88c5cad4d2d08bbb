package io.r2lock;

import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;

/** One call of a storm: its subscriber, who cancels it, and who remembers what the cancel met. */
final class StormCall implements CoreSubscriber<Object> {

    private static final long LATEST_MICROS = 2_000;

    /** What the guarded work is doing, said by the work itself. */
    enum Doing {
        WORK,
        SQL,
        NESTED
    }

    private final Storm storm;
    private final Scheduler canceller;
    private final AtomicBoolean ended = new AtomicBoolean();
    private final AtomicReference<@Nullable Subscription> subscription = new AtomicReference<>();
    private volatile Doing doing = Doing.WORK;

    StormCall(Storm storm, Scheduler canceller) {
        this.storm = storm;
        this.canceller = canceller;
    }

    /** Remembers what the work does from here on. */
    <T> Mono<T> doing(Doing what, Mono<T> work) {
        return Mono.defer(() -> {
            doing = what;
            return work;
        });
    }

    void subscribeTo(Publisher<?> publisher) {
        publisher.subscribe(this);
    }

    /** Cancels within the next 2 ms, if it has not ended by then. */
    void cancelSoon() {
        cancelWithin(LATEST_MICROS);
    }

    /** As {@link #cancelSoon}, in another time. */
    void cancelWithin(long latestMicros) {
        long micros = ThreadLocalRandom.current().nextLong(latestMicros + 1);
        canceller.schedule(this::cancel, micros, TimeUnit.MICROSECONDS);
    }

    boolean hasEnded() {
        return ended.get();
    }

    /** {@code STARTING}, {@code QUEUED} and so on; {@code ACQUIRE} and the like for what is no guard. */
    String phase() {
        Subscription mine = subscription.get();
        if (ended.get()) {
            return "ENDED";
        }
        if (mine instanceof Guard<?> guard) {
            String phase = guard.phase();
            return phase.equals("RUNNING") ? doing.name() : phase;
        }
        return mine == null ? "STARTING" : "OTHER";
    }

    void cancel() {
        Subscription mine = subscription.get();
        if (mine == null || ended.get()) {
            end(null);
            return;
        }
        String met = phase();
        mine.cancel();
        // a COMMIT cannot be called back: the call ends by itself then
        if (!met.equals("ENDING")) {
            end(null);
        }
        storm.met(met);
    }

    private void end(@Nullable Throwable error) {
        if (ended.compareAndSet(false, true)) {
            storm.ended(error);
        }
    }

    @Override
    public void onSubscribe(Subscription given) {
        subscription.set(given);
        given.request(Long.MAX_VALUE);
    }

    @Override
    public void onNext(Object item) {
        // the end counts
    }

    @Override
    public void onError(Throwable error) {
        end(error);
    }

    @Override
    public void onComplete() {
        end(null);
    }
}
