export function requestAdapter(): Promise<GPUAdapter | null> {
  return navigator.gpu.requestAdapter();
}
