package io.r2lock;

class OldestAmbientTroubleIT extends AmbientTroubleContract {

    OldestAmbientTroubleIT() {
        super(TestServer.oldest());
    }
}
