package io.r2lock;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.blockhound.BlockHound;
import reactor.blockhound.BlockingOperationError;
import reactor.blockhound.integration.BlockHoundIntegration;

/**
 * Blocking calls that are not r2lock's and that the tests put up with, each for a reason.
 *
 * <p>What is found elsewhere is logged before it is thrown, because the driver and Netty turn an error on an event loop
 * into a closed connection; {@link NoResidue} sees the log.
 */
public final class TestBlockHoundIntegration implements BlockHoundIntegration {

    private static final Logger LOG = LoggerFactory.getLogger(TestBlockHoundIntegration.class);

    @Override
    public void applyTo(BlockHound.Builder builder) {
        builder.blockingMethodCallback(method -> found(new BlockingOperationError(method)))
                .allowBlockingCallsInside(TestBlockHoundIntegration.class.getName(), "found")
                // the tests log to the console, from any thread
                .allowBlockingCallsInside("ch.qos.logback.classic.Logger", "callAppenders")
                // reads /dev/urandom, which does not block; used by SCRAM's nonce and by TLS
                .allowBlockingCallsInside("sun.security.provider.NativePRNG$RandomIO", "readFully")
                // a timer that is disposed of leaves the JDK's queue, whose lock is held for a moment by whoever else
                // uses it;
                // Reactor's own integration allows that for adding and taking
                .allowBlockingCallsInside("java.util.concurrent.ScheduledThreadPoolExecutor$DelayedWorkQueue", "remove")
                // Netty's allocator takes a lock for a moment when it grows, on whichever thread encodes a message
                .allowBlockingCallsInside("io.netty.buffer.AdaptivePoolingAllocator", "allocate")
                // the driver makes its TLS context, and for that reads the certificates, on the event loop
                .allowBlockingCallsInside("io.r2dbc.postgresql.client.ReactorNettyClient", "registerSslHandler");
    }

    private static void found(BlockingOperationError error) {
        LOG.error("blocking call on {}", Thread.currentThread().getName(), error);
        throw error;
    }
}
