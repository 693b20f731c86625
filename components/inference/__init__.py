"""Networks as functions of pixels: engines, the sliding window, and pictures of what they predict."""
